# Compiler, linker, warnings, ccache. One place, for every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# One flag for libraries and programs alike (CMake's own property gives programs -fPIE): the
# precompiled header is shared by both, and plugins and PIE both work with it.
add_compile_options(-fPIC)

# Frame pointers cost about a percent and make `perf record -g` and crash traces readable;
# -g1 keeps function names and lines at a fifth of the size of full debug information.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -fno-omit-frame-pointer")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1 -fno-omit-frame-pointer")

add_compile_options(-fcolor-diagnostics)
add_link_options(-fuse-ld=lld)
if(HULSE_SANITIZE)
  add_compile_options(-fsanitize=${HULSE_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${HULSE_SANITIZE})
endif()

find_program(HULSE_CCACHE ccache)
if(HULSE_CCACHE)
  # The sloppiness and the flag are what ccache needs to cache sources that use a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER
    ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    ${HULSE_CCACHE})
  add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
endif()

# A designated initialiser that leaves fields at their defaults is the point of having defaults.
# Own code only: generated and third-party code is compiled without.
set(HULSE_WARNINGS -Wall -Wextra -Wno-missing-field-initializers -Wconversion -Wno-sign-conversion -Wshadow -Wnon-virtual-dtor
  -Woverloaded-virtual -Werror)
