#include <memory>
#include <optional>
#include <string>

#include "csrc/client/grpc_loader.h"
#include "csrc/client/socket_choice.h"
#include "csrc/protocol/link.h"
#include "csrc/python/bindings.h"
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
    RTSWAP_ASSIGN(const std::optional<std::string> socket, client::choose_socket(options));
    RTSWAP_ASSIGN(const rpc::ConnectFunction connect, client::load_grpc_link(grpc_library));
    RTSWAP_ASSIGN(auto link, client::connect_by(connect, {.socket_path = socket.value()}));
    return std::unique_ptr<Observer>(new Observer(std::move(link)));
  }

  py::dict snapshot(int64_t limit_ns) {
    return to_python(
        ask_in_slices(limit_ns, [&](int64_t slice_ns) { return link_->snapshot(slice_ns); }));
  }

 private:
  explicit Observer(std::unique_ptr<protocol::Link> link) : link_(std::move(link)) {}

  const std::unique_ptr<protocol::Link> link_;  // never started: no session
};

}  // namespace

void bind_observer(py::module_& module) {
  py::class_<Observer>(module, "Observer")
      .def(py::init([](const std::string& socket_path, const std::string& grpc_library) {
             return take_unlocked([&] { return Observer::connect(socket_path, grpc_library); });
           }),
           py::kw_only(), py::arg("socket_path"), py::arg("grpc_library"))
      .def("snapshot", &Observer::snapshot, py::arg("limit_ns"));
}

}  // namespace rtswap::python
