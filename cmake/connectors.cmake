# One folder of src/connectors = one static library; the registry that names them all is generated, so
# that a new connector needs no edit outside its folder. A folder's deps.cmake (a few lines, optional)
# sets HULSE_CONNECTOR_LINK to the libraries it needs beyond what every connector gets.
function(hulse_connectors)
  file(GLOB folders CONFIGURE_DEPENDS LIST_DIRECTORIES true
    RELATIVE ${CMAKE_SOURCE_DIR}/src/connectors ${CMAKE_SOURCE_DIR}/src/connectors/*)
  set(declarations "")
  set(calls "")
  set(targets "")
  foreach(folder IN LISTS folders)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/connectors/${folder}/*.cpp)
    if(NOT sources)
      continue()  # left by another branch, or just begun
    endif()
    set(HULSE_CONNECTOR_LINK "")
    include(${CMAKE_SOURCE_DIR}/src/connectors/${folder}/deps.cmake OPTIONAL)
    hulse_folder(connector_${folder} connectors/${folder}
      LINK hulse_connect hulse_config hulse_aio ${HULSE_CONNECTOR_LINK})
    list(APPEND targets hulse_connector_${folder})
    string(APPEND declarations
      "namespace ${folder} {\nstd::span<const connect::Descriptor> descriptors();\n}\n")
    string(APPEND calls "  add(connectors::${folder}::descriptors());\n")
  endforeach()
  configure_file(${CMAKE_SOURCE_DIR}/cmake/registry.cpp.in ${CMAKE_BINARY_DIR}/generated/registry.cpp
    @ONLY)
  # Programs link this one: every connector, and the registry.
  add_library(hulse_connectors STATIC ${CMAKE_BINARY_DIR}/generated/registry.cpp)
  target_compile_options(hulse_connectors PRIVATE ${HULSE_WARNINGS})
  target_link_libraries(hulse_connectors PUBLIC hulse_connect ${targets} hulse_pch)
  target_precompile_headers(hulse_connectors REUSE_FROM hulse_pch)
endfunction()
