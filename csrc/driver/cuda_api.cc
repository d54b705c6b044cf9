#include "csrc/driver/cuda_api.h"

#include <vector>

#include "csrc/driver/shared_library.h"

namespace rtswap::driver::cuda {

Result<Api> load_api(const char* library) {
  Api api;
  std::vector<Symbol> symbols;
#define RTSWAP_CUDA_SYMBOL(member, symbol, parameters) \
  symbols.push_back({reinterpret_cast<void**>(&api.member), {symbol}});
  RTSWAP_CUDA_FUNCTIONS(RTSWAP_CUDA_SYMBOL)
#undef RTSWAP_CUDA_SYMBOL
  RTSWAP_TRY(
      load_symbols(library, symbols,
                   "rtswap needs an NVIDIA GPU with driver 470 or newer; in a container, the "
                   "driver's libraries must be mounted (docker run --gpus all)"));
  return api;
}

std::string describe(const Api& api, Code error) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (api.get_error_name(error, &name) != kSuccess || name == nullptr) name = "unknown CUDA error";
  if (api.get_error_string(error, &text) != kSuccess || text == nullptr) text = "no description";
  return std::string(name) + " (" + std::to_string(error) + "): " + text;
}

}  // namespace rtswap::driver::cuda
