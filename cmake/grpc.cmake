# The gRPC side: rtswap_rpc (codec, link, descriptor socket), librtswap_grpc.so (what a client opens
# when it asks for a daemon) and rtswapd.
#
# Libraries are looked up by name instead of through the packages' own .pc and .cmake files: those
# carry absolute paths, and the same build must work with a relocated prefix named by
# CMAKE_PREFIX_PATH, CPLUS_INCLUDE_PATH and LIBRARY_PATH. `grpc++_unsecure` is enough (the peers are
# known by their credentials on a Unix socket) and drops OpenSSL from every client; it must never be
# mixed with `grpc++` in one process.

string(REPLACE ":" ";" rtswap_include_hints "$ENV{CPLUS_INCLUDE_PATH}")
string(REPLACE ":" ";" rtswap_library_hints "$ENV{LIBRARY_PATH}")
set(rtswap_missing "")
set(rtswap_packages "")

# rtswap_find(<variable> <package> LIBRARY|HEADER|PROGRAM <name>): as find_library and friends, and
# remembers the Debian package of what was not found.
macro(rtswap_find variable package kind name)
  if("${kind}" STREQUAL "LIBRARY")
    find_library(${variable} NAMES ${name} HINTS ${rtswap_library_hints})
  elseif("${kind}" STREQUAL "HEADER")
    find_path(${variable} NAMES ${name} HINTS ${rtswap_include_hints})
  else()
    find_program(${variable} NAMES ${name})
  endif()
  mark_as_advanced(${variable})
  if(NOT ${variable})
    list(APPEND rtswap_missing ${name})
    list(APPEND rtswap_packages ${package})
  endif()
endmacro()

rtswap_find(RTSWAP_PROTOC protobuf-compiler PROGRAM protoc)
rtswap_find(RTSWAP_GRPC_PLUGIN protobuf-compiler-grpc PROGRAM grpc_cpp_plugin)
rtswap_find(RTSWAP_PROTOBUF_INCLUDE libprotobuf-dev HEADER google/protobuf/message.h)
rtswap_find(RTSWAP_PROTOBUF_LIBRARY libprotobuf-dev LIBRARY protobuf)
rtswap_find(RTSWAP_GRPCPP_INCLUDE libgrpc++-dev HEADER grpcpp/grpcpp.h)
rtswap_find(RTSWAP_GRPCPP_LIBRARY libgrpc++-dev LIBRARY grpc++_unsecure)
rtswap_find(RTSWAP_GRPC_LIBRARY libgrpc-dev LIBRARY grpc_unsecure)
rtswap_find(RTSWAP_GPR_LIBRARY libgrpc-dev LIBRARY gpr)
rtswap_find(RTSWAP_ABSL_INCLUDE libabsl-dev HEADER absl/strings/string_view.h)
# gRPC's headers inline calls into it.
rtswap_find(RTSWAP_ABSL_SYNCHRONIZATION libabsl-dev LIBRARY absl_synchronization)
rtswap_find(RTSWAP_CLI11_INCLUDE libcli11-dev HEADER CLI/CLI.hpp)
rtswap_find(RTSWAP_TOML_INCLUDE libtomlplusplus-dev HEADER toml++/toml.h)
rtswap_find(RTSWAP_JSON_INCLUDE nlohmann-json3-dev HEADER nlohmann/json.hpp)
rtswap_find(RTSWAP_SPDLOG_INCLUDE libspdlog-dev HEADER spdlog/spdlog.h)
rtswap_find(RTSWAP_SPDLOG_LIBRARY libspdlog-dev LIBRARY spdlog)
rtswap_find(RTSWAP_FMT_LIBRARY libfmt-dev LIBRARY fmt)
if(rtswap_missing)
  list(REMOVE_DUPLICATES rtswap_packages)
  list(JOIN rtswap_packages " " rtswap_packages)
  list(JOIN rtswap_missing ", " rtswap_missing)
  message(FATAL_ERROR
    "The daemon and its link need gRPC and a few libraries, and these were not found: ${rtswap_missing}.\n"
    "On Debian or Ubuntu:  apt install ${rtswap_packages}\n"
    "With another prefix, set CMAKE_PREFIX_PATH. Without the daemon (an arbiter inside each process):"
    "  cmake -DRTSWAP_WITH_GRPC=OFF")
endif()

# --- generated code, made at build time --------------------------------------------------------

set(rtswap_generated ${CMAKE_BINARY_DIR}/generated)
file(MAKE_DIRECTORY ${rtswap_generated})

# rtswap_generate(<variable> <name>): proto/<name>.proto -> messages and services, in <variable>.
function(rtswap_generate variable name)
  set(files "")
  foreach(extension pb.cc pb.h grpc.pb.cc grpc.pb.h)
    list(APPEND files ${rtswap_generated}/${name}.${extension})
  endforeach()
  add_custom_command(
    OUTPUT ${files}
    COMMAND ${RTSWAP_PROTOC} --proto_path=${CMAKE_SOURCE_DIR}/proto
      --cpp_out=${rtswap_generated} --grpc_out=${rtswap_generated}
      --plugin=protoc-gen-grpc=${RTSWAP_GRPC_PLUGIN} ${CMAKE_SOURCE_DIR}/proto/${name}.proto
    DEPENDS ${CMAKE_SOURCE_DIR}/proto/${name}.proto VERBATIM COMMENT "Generating ${name}")
  set(${variable} ${files} PARENT_SCOPE)
endfunction()

rtswap_generate(rtswap_protocol_files rtswap/v1/arbiter)
rtswap_generate(rtswap_health_files grpc/health/v1/health)

# --- targets -------------------------------------------------------------------------------------

file(GLOB rtswap_rpc_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/rpc/*.cc)
list(REMOVE_ITEM rtswap_rpc_sources ${CMAKE_SOURCE_DIR}/csrc/rpc/library_entry.cc)
add_library(rtswap_rpc STATIC ${rtswap_rpc_sources} ${rtswap_protocol_files})
target_include_directories(rtswap_rpc SYSTEM PUBLIC ${rtswap_generated} ${RTSWAP_PROTOBUF_INCLUDE}
  ${RTSWAP_GRPCPP_INCLUDE} ${RTSWAP_ABSL_INCLUDE})
target_link_libraries(rtswap_rpc PUBLIC rtswap_protocol ${RTSWAP_GRPCPP_LIBRARY}
  ${RTSWAP_GRPC_LIBRARY} ${RTSWAP_GPR_LIBRARY} ${RTSWAP_PROTOBUF_LIBRARY}
  ${RTSWAP_ABSL_SYNCHRONIZATION})

# One exported symbol: gRPC and protobuf names that leak out of a library have broken other users of
# them in the same Python process.
add_library(rtswap_grpc SHARED ${CMAKE_SOURCE_DIR}/csrc/rpc/library_entry.cc)
target_link_libraries(rtswap_grpc PRIVATE rtswap_rpc)
target_link_options(rtswap_grpc PRIVATE
  "LINKER:--version-script=${CMAKE_SOURCE_DIR}/csrc/rpc/exports.map")
set_target_properties(rtswap_grpc PROPERTIES LINK_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/rpc/exports.map)

file(GLOB rtswap_daemon_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/daemon/*.cc)
list(REMOVE_ITEM rtswap_daemon_sources ${CMAKE_SOURCE_DIR}/daemon/main.cc)
add_library(rtswap_daemon STATIC ${rtswap_daemon_sources} ${rtswap_health_files})
target_include_directories(rtswap_daemon SYSTEM PUBLIC ${RTSWAP_CLI11_INCLUDE}
  ${RTSWAP_TOML_INCLUDE} ${RTSWAP_JSON_INCLUDE} ${RTSWAP_SPDLOG_INCLUDE})
target_compile_definitions(rtswap_daemon PUBLIC RTSWAP_VERSION="${PROJECT_VERSION}"
  SPDLOG_COMPILED_LIB SPDLOG_SHARED_LIB SPDLOG_FMT_EXTERNAL)
target_link_libraries(rtswap_daemon PUBLIC rtswap_rpc rtswap_bank rtswap_arbiter
  ${RTSWAP_SPDLOG_LIBRARY} ${RTSWAP_FMT_LIBRARY})

add_executable(rtswapd ${CMAKE_SOURCE_DIR}/daemon/main.cc)
target_link_libraries(rtswapd PRIVATE rtswap_daemon)
