# Google Highway: the system's package, else fetched at configure time. The targets compiled are
# AVX-512, AVX2 and SSSE3 on x86-64, NEON on arm64; see src/backends/cpu/simd.hpp.
add_library(lc_highway INTERFACE)
set(LC_HIGHWAY_TAG 1.2.0)

# Says what to do where the fetch cannot work; FetchContent's own message shows a git log.
function(lc_check_highway_source url)
  if(FETCHCONTENT_SOURCE_DIR_HIGHWAY OR FETCHCONTENT_FULLY_DISCONNECTED OR
     EXISTS ${CMAKE_BINARY_DIR}/_deps/highway-src/CMakeLists.txt)
    return()
  endif()
  set(found 1)
  find_program(LC_GIT git)
  if(LC_GIT)
    execute_process(COMMAND ${LC_GIT} ls-remote --exit-code ${url} refs/tags/${LC_HIGHWAY_TAG}
                    TIMEOUT 30 RESULT_VARIABLE found OUTPUT_QUIET ERROR_QUIET)
  endif()
  if(NOT found EQUAL 0)
    message(FATAL_ERROR "Highway is not installed and cannot be fetched (no git, or no network). "
      "Install it (Debian: apt-get install libhwy-dev), or pass "
      "-DFETCHCONTENT_SOURCE_DIR_HIGHWAY=<a checkout of Highway ${LC_HIGHWAY_TAG}>.")
  endif()
endfunction()

find_package(hwy QUIET CONFIG)
if(hwy_FOUND)
  target_link_libraries(lc_highway INTERFACE hwy::hwy)
else()
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(LC_HWY QUIET IMPORTED_TARGET libhwy)
  endif()
  if(TARGET PkgConfig::LC_HWY)
    target_link_libraries(lc_highway INTERFACE PkgConfig::LC_HWY)
  else()
    message(STATUS "Highway not found (Debian: libhwy-dev); fetching ${LC_HIGHWAY_TAG}")
    set(url https://github.com/google/highway)
    lc_check_highway_source(${url})
    include(FetchContent)
    foreach(part TESTS EXAMPLES CONTRIB INSTALL)
      set(HWY_ENABLE_${part} OFF CACHE BOOL "" FORCE)
    endforeach()
    set(HWY_FORCE_STATIC_LIBS ON CACHE BOOL "" FORCE)  # goes into our library; nothing to install
    FetchContent_Declare(highway GIT_REPOSITORY ${url} GIT_TAG ${LC_HIGHWAY_TAG} GIT_SHALLOW ON)
    FetchContent_MakeAvailable(highway)
    target_link_libraries(lc_highway INTERFACE hwy)
    # As a system's header would be: its warnings are not ours.
    target_include_directories(lc_highway SYSTEM INTERFACE ${highway_SOURCE_DIR})
  endif()
endif()
# Everything between and above the targets we want. The numbers are targets that 1.0.3 has no names
# for: 0x58 is AVX3_ZEN4, AVX3_SPR and AVX10_2.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_definitions(lc_highway INTERFACE
    "HWY_DISABLED_TARGETS=(HWY_SSE4|HWY_AVX3_DL|0x58LL)")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  target_compile_definitions(lc_highway INTERFACE
    "HWY_DISABLED_TARGETS=(HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128)")
endif()
