# One folder of src/ = one static library, one namespace, one test program.

# hulse_folder(NAME path/from/src [LINK target...])
# Compiles every *.cpp of the folder; *_test.cpp go into the program NAME_test. tools/check_tree.py
# holds the includes to the layers of docs/internals/layers.txt; LINK names what the code needs.
function(hulse_folder name path)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/src/${path})
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.cpp)
  file(GLOB tests CONFIGURE_DEPENDS ${dir}/*_test.cpp)
  list(REMOVE_ITEM sources ${tests})
  add_library(hulse_${name} STATIC ${sources})
  target_include_directories(hulse_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_compile_options(hulse_${name} PRIVATE ${HULSE_WARNINGS})
  target_link_libraries(hulse_${name} PUBLIC ${ARG_LINK})
  target_precompile_headers(hulse_${name} REUSE_FROM hulse_pch)
  target_link_libraries(hulse_${name} PUBLIC hulse_pch)
  if(HULSE_TESTS AND tests)
    hulse_test(${name}_test SOURCES ${tests} LINK hulse_${name})
  endif()
endfunction()

# hulse_test(NAME SOURCES file... [LINK target...]): a GoogleTest program under build/<preset>/tests/
function(hulse_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  if(NOT HULSE_TESTS)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_compile_options(${name} PRIVATE ${HULSE_WARNINGS})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} hulse_pch GTest::gtest GTest::gmock GTest::gtest_main)
  target_precompile_headers(${name} REUSE_FROM hulse_pch)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endfunction()
