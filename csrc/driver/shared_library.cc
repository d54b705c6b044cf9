#include "csrc/driver/shared_library.h"

#include <dlfcn.h>

namespace rtswap::driver {

Status load_symbols(const char* library, const std::vector<Symbol>& symbols, const char* advice) {
  void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return fail(ErrorCode::unsupported,
                std::string("cannot open ") + library + " (" + dlerror() + "): " + advice);
  }
  for (const Symbol& symbol : symbols) {
    for (const char* name : symbol.names) {
      if (*symbol.target == nullptr) *symbol.target = dlsym(handle, name);
    }
    if (*symbol.target == nullptr) {
      return fail(ErrorCode::unsupported, std::string(library) + " has no function " +
                                              symbol.names.front() + ": " + advice);
    }
  }
  return {};
}

}  // namespace rtswap::driver
