# bench/<name>.cc -> bench_<name>; each runs without arguments and prints one JSON object.
if(RTSWAP_WITH_GRPC)
  add_executable(bench_grant_latency ${CMAKE_SOURCE_DIR}/bench/grant_latency.cc)
  target_link_libraries(bench_grant_latency PRIVATE rtswap_client)
  add_dependencies(bench_grant_latency rtswapd rtswap_grpc)
endif()
add_executable(bench_planning ${CMAKE_SOURCE_DIR}/bench/planning.cc)
target_link_libraries(bench_planning PRIVATE rtswap_policy)
