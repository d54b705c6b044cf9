# Where things lie within the Python package: the same in a source tree, a wheel and a prefix.
if(RTSWAP_WITH_GRPC)
  install(TARGETS rtswap_grpc LIBRARY DESTINATION rtswap)
  install(TARGETS rtswapd RUNTIME DESTINATION rtswap/bin)
endif()
