// Which instruction set runs: one table of kernels, chosen once at load.
#pragma once

#include <string>
#include <vector>

#include "cpu/isa/table.hpp"

namespace gdcore {

template <class T>
const IsaTable<T>& isa();  // the chosen table

std::vector<std::string> built_isas();
std::vector<std::string> available_isas();  // built, and this CPU has them; best last

// "reference" or one of available_isas(); throws std::invalid_argument that names the choices.
void choose_isa(const std::string& name);
std::string chosen_isa();
bool reference_chosen();

// This CPU reads one place after the other fastest, without prefetch instructions: it drops those
// for which it has no room.
bool reads_in_order();

}  // namespace gdcore
