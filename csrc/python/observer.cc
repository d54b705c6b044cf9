#include "csrc/python/observer.h"

#include <filesystem>
#include <memory>
#include <string>

#include "csrc/client/grpc_loader.h"
#include "csrc/client/socket_choice.h"
#include "csrc/protocol/link.h"
#include "csrc/python/errors.h"
#include "csrc/python/values.h"
#include "csrc/python/waiting.h"

namespace py = pybind11;

namespace rtswap::python {
namespace {

class Observer {
 public:
  static Result<std::unique_ptr<Observer>> connect(const std::string& socket_path,
                                                   const std::string& grpc_library) {
    client::ConnectOptions options;
    options.choice = client::ArbiterChoice::daemon;
    options.socket_path = socket_path;
    RTSWAP_ASSIGN(
        const auto chosen,
        client::choose_socket(client::socket_wishes(options), [](const std::string& path) {
          std::error_code ignored;
          return std::filesystem::exists(path, ignored);
        }));
    RTSWAP_ASSIGN(const rpc::ConnectFunction function, client::load_grpc_link(grpc_library));
    Result<std::unique_ptr<protocol::Link>> link =
        fail(ErrorCode::internal, "the library that talks to a daemon returned nothing");
    function({.socket_path = chosen.value()}, link);
    if (!link) return fail(link.error());
    return std::unique_ptr<Observer>(new Observer(chosen.value(), std::move(*link)));
  }

  const std::string& socket_path() const { return socket_path_; }

  py::dict snapshot(int64_t limit_ns) {
    return to_python(
        ask_in_slices(limit_ns, [&](int64_t slice_ns) { return link_->snapshot(slice_ns); }));
  }

 private:
  Observer(std::string socket_path, std::unique_ptr<protocol::Link> link)
      : socket_path_(std::move(socket_path)), link_(std::move(link)) {}

  const std::string socket_path_;
  const std::unique_ptr<protocol::Link> link_;  // never started: no session
};

}  // namespace

void bind_observer(py::module_& module) {
  py::class_<Observer>(module, "Observer")
      .def(py::init([](const std::string& socket_path, const std::string& grpc_library) {
             return take_unlocked([&] { return Observer::connect(socket_path, grpc_library); });
           }),
           py::kw_only(), py::arg("socket_path"), py::arg("grpc_library"))
      .def_property_readonly("socket_path", &Observer::socket_path)
      .def("snapshot", &Observer::snapshot, py::arg("limit_ns"));
}

}  // namespace rtswap::python
