#include "cuda/fatbin.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "cuda/errors.hpp"

namespace gdcore::cuda {
namespace {

constexpr char file_name[] = "kernels.fatbin";

std::string beside(const std::string& path) {
  return path.substr(0, path.rfind('/') + 1) + file_name;
}

// The layout of nvcc's files, as far as it is read here: a header, then entries.
struct Header {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;  // behind the header
};
struct Entry {
  uint16_t kind, version;  // kind: 1 PTX, 2 machine code
  uint32_t header_bytes;
  uint64_t bytes;  // behind the entry's header
  uint32_t other[3], sm;
};
constexpr uint32_t magic = 0xBA55ED50;
constexpr uint16_t ptx = 1;

std::vector<std::string> entries_of(const std::vector<char>& fatbin, size_t at) {
  std::vector<std::string> found;
  Entry entry;
  while (at + sizeof entry <= fatbin.size()) {
    std::memcpy(&entry, fatbin.data() + at, sizeof entry);
    if (entry.header_bytes < sizeof entry || entry.bytes > fatbin.size()) break;
    found.push_back((entry.kind == ptx ? "compute_" : "sm_") + std::to_string(entry.sm));
    at += entry.header_bytes + entry.bytes;
  }
  return found;
}

}  // namespace

std::string fatbin_path() {
  if (const char* const named = std::getenv("GDCORE_CUDA_FATBIN")) return named;
  const char* const driver = std::getenv("GDCORE_CUDA_DRIVER");
  if (driver && std::ifstream(beside(driver))) return beside(driver);
  Dl_info info;
  const bool known = dladdr(reinterpret_cast<void*>(&fatbin_path), &info) && info.dli_fname;
  return known && std::ifstream(beside(info.dli_fname)) ? beside(info.dli_fname) : std::string();
}

std::vector<char> read_fatbin() {
  const std::string path = fatbin_path();
  std::ifstream file(path, std::ios::binary);
  if (path.empty() || !file)
    throw Unavailable("this build of gdcore has no CUDA kernels" +
                      (path.empty() ? std::string() : " (" + path + " cannot be read)") +
                      "; build one with GDCORE_CUDA=1 pip install --no-binary gdcore gdcore.");
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> architectures_of(const std::vector<char>& fatbin) {
  Header header{};
  if (fatbin.size() >= sizeof header) std::memcpy(&header, fatbin.data(), sizeof header);
  if (header.magic != magic) return {};
  std::vector<std::string> found = entries_of(fatbin, header.header_bytes);
  std::sort(found.begin(), found.end(), [](const std::string& a, const std::string& b) {
    const auto key = [](const std::string& name) {  // sm_ before compute_, then by number
      return std::pair(name[0] == 'c', std::stoi(name.substr(name.find('_') + 1)));
    };
    return key(a) < key(b);
  });
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

std::string architecture_for(int sm, const std::vector<std::string>& architectures) {
  std::string best;
  for (const std::string& name : architectures) {
    const int theirs = std::stoi(name.substr(name.find('_') + 1));
    const bool is_ptx = name[0] == 'c';
    const bool machine_code = !best.empty() && best[0] == 's';
    // Sorted: a later name is newer. Machine code runs on its own generation only.
    if (theirs <= sm && (is_ptx ? !machine_code : theirs / 10 == sm / 10)) best = name;
  }
  return best;
}

}  // namespace gdcore::cuda
