# find_package(LightningCore) for other projects.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
install(TARGETS lightning_core EXPORT LightningCoreTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT LightningCoreTargets NAMESPACE lightning_core::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/LightningCore)
configure_package_config_file(cmake/LightningCoreConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/LightningCoreConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/LightningCore)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/LightningCoreConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/LightningCoreConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/LightningCoreConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/LightningCore)
