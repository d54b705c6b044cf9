# rtswap_core: the Python extension rtswap/_core, built against the torch of the Python found.
#
# The core is linked in statically; of torch only what ATen tensors need (never c10_cuda), so that
# the same sources build with a CPU wheel. A copy of the built extension is placed in rtswap/, which
# makes the source tree importable as it is.
find_package(Python3 3.10 REQUIRED COMPONENTS Interpreter Development.Module)

execute_process(
  COMMAND ${Python3_EXECUTABLE} -c "
import sysconfig, torch, torch.utils.cpp_extension as extension
print(torch.__version__)
print('.'.join(torch.__version__.split('.')[:2]))
print(int(torch.compiled_with_cxx11_abi()))
print(torch.__path__[0] + '/lib')
print(';'.join(extension.include_paths()))
print(sysconfig.get_config_var('EXT_SUFFIX'))
"
  OUTPUT_VARIABLE rtswap_torch_facts
  RESULT_VARIABLE rtswap_torch_missing
  OUTPUT_STRIP_TRAILING_WHITESPACE)
if(rtswap_torch_missing)
  message(FATAL_ERROR "${Python3_EXECUTABLE} cannot import torch: install torch for that Python, "
                      "or name another one with -DPython3_EXECUTABLE=...")
endif()
string(REPLACE ";" "|" rtswap_torch_facts "${rtswap_torch_facts}")
string(REPLACE "\n" ";" rtswap_torch_facts "${rtswap_torch_facts}")
list(GET rtswap_torch_facts 0 RTSWAP_TORCH_VERSION)
list(GET rtswap_torch_facts 1 RTSWAP_TORCH_MINOR)
list(GET rtswap_torch_facts 2 RTSWAP_TORCH_CXX11_ABI)
list(GET rtswap_torch_facts 3 RTSWAP_TORCH_LIB)
list(GET rtswap_torch_facts 4 RTSWAP_TORCH_INCLUDE)
list(GET rtswap_torch_facts 5 RTSWAP_EXTENSION_SUFFIX)
string(REPLACE "|" ";" RTSWAP_TORCH_INCLUDE "${RTSWAP_TORCH_INCLUDE}")
message(STATUS "rtswap: Python ${Python3_VERSION}, torch ${RTSWAP_TORCH_VERSION}")

file(GLOB rtswap_core_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/python/*.cc
     ${CMAKE_SOURCE_DIR}/csrc/torch/*.cc)
Python3_add_library(rtswap_core MODULE ${rtswap_core_sources})
set_target_properties(rtswap_core PROPERTIES
  PREFIX "" OUTPUT_NAME _core SUFFIX "${RTSWAP_EXTENSION_SUFFIX}"
  # torch's libraries are loaded by `import torch` before this one; the path serves tools like ldd.
  BUILD_RPATH "${RTSWAP_TORCH_LIB}" INSTALL_RPATH "${RTSWAP_TORCH_LIB}"
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/python-exports.map)
target_include_directories(rtswap_core SYSTEM PRIVATE ${RTSWAP_TORCH_INCLUDE})
target_compile_definitions(rtswap_core PRIVATE
  TORCH_EXTENSION_NAME=_core _GLIBCXX_USE_CXX11_ABI=${RTSWAP_TORCH_CXX11_ABI}
  RTSWAP_VERSION="${PROJECT_VERSION}" RTSWAP_TORCH_VERSION="${RTSWAP_TORCH_VERSION}"
  RTSWAP_TORCH_MINOR="${RTSWAP_TORCH_MINOR}")
# Unique symbols are shared across a process whatever their visibility; ours must not be.
target_compile_options(rtswap_core PRIVATE -fno-gnu-unique)
target_link_libraries(rtswap_core PRIVATE
  rtswap_client rtswap_simulation
  ${RTSWAP_TORCH_LIB}/libtorch_python.so ${RTSWAP_TORCH_LIB}/libtorch.so
  ${RTSWAP_TORCH_LIB}/libtorch_cpu.so ${RTSWAP_TORCH_LIB}/libc10.so)
target_link_options(rtswap_core PRIVATE
  -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/python-exports.map -Wl,--exclude-libs,ALL
  -Wl,-Bsymbolic-functions)

add_custom_command(TARGET rtswap_core POST_BUILD
  COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_FILE:rtswap_core> ${CMAKE_SOURCE_DIR}/rtswap/
  COMMENT "Copying the extension into rtswap/")

install(TARGETS rtswap_core LIBRARY DESTINATION rtswap)
