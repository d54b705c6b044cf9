// What cannot be simulated, said before anything is.
#pragma once

#include <string>

#include "csrc/simulation/simulation.h"

namespace rtswap::simulation {

// The first mistake as a sentence without its subject; empty: it makes sense. Any thread.
std::string mistake_in(const SimConfig& config);
std::string mistake_in(const SimTask& task);

}  // namespace rtswap::simulation
