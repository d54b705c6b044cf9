# Where things lie within the Python package: the same in a source tree, a wheel and a prefix.
if(RTSWAP_WITH_GRPC)
  install(TARGETS rtswap_grpc LIBRARY DESTINATION rtswap)
  install(TARGETS rtswapd RUNTIME DESTINATION rtswap/bin)
endif()
# The demo runs the models of the examples, which a wheel does not carry.
install(FILES ${CMAKE_SOURCE_DIR}/examples/models.py DESTINATION rtswap/demo)
