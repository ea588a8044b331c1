# The Python module: lightning_core._core. In a wheel build it is installed beside the package; in a
# checkout it is written there, so that python/ on the path is a working package.
find_package(Python 3.9 REQUIRED COMPONENTS Interpreter Development.Module NumPy)
execute_process(COMMAND ${Python_EXECUTABLE} -m nanobind --cmake_dir RESULT_VARIABLE rc
                OUTPUT_STRIP_TRAILING_WHITESPACE OUTPUT_VARIABLE nanobind_ROOT ERROR_QUIET)
if(NOT rc EQUAL 0)
  message(FATAL_ERROR "${Python_EXECUTABLE} has no nanobind: pip install nanobind numpy, or run "
    "scripts/setup.sh and pass -DPython_EXECUTABLE=.venv/bin/python.")
endif()
find_package(nanobind CONFIG REQUIRED)
file(GLOB LC_PYTHON_SOURCES CONFIGURE_DEPENDS python/src/*.cpp)
nanobind_add_module(_core NB_STATIC NOMINSIZE NB_SUPPRESS_WARNINGS ${LC_PYTHON_SOURCES} $<TARGET_OBJECTS:lc_core>)
target_include_directories(_core PRIVATE include src python/src ${LC_GEN})
target_link_libraries(_core PRIVATE lc_highway Python::NumPy Threads::Threads)
target_compile_options(_core PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
target_compile_definitions(_core PRIVATE LC_VERSION="${PROJECT_VERSION}")
if(SKBUILD)
  install(TARGETS _core LIBRARY DESTINATION lightning_core)
  # Modules beside the package.
  file(GLOB LC_PYTHON_MODULES CONFIGURE_DEPENDS python/*.py)
  install(FILES ${LC_PYTHON_MODULES} DESTINATION .)
else()
  set_target_properties(_core PROPERTIES
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/python/lightning_core)
endif()
