// Second moments of the rows of each group in one pass over the rows in their own order, into a
// table by group. Beyond a cache the rows are dealt to parts of the table first.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"
#include "cpu/threads.hpp"
#include "grouped_rows.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace gdcore {
namespace {

constexpr int64_t line = 8;                // doubles
constexpr int64_t most_table = 20 << 20;   // bytes of a table that shares a last cache with rows
constexpr int64_t part_bytes = 512 << 10;  // of the table: a second cache holds them
constexpr int64_t least_dealt = 32 << 20;  // bytes of rows that are dealt at a time
constexpr int64_t rows_of_piece = 1 << 15, most_pieces = 32;  // of these rows, for threads to take

constexpr int64_t triangle(int64_t d) { return (d + 2) * (d + 3) / 2; }

// Zeros on whole lines, in large pages if the system has them.
double* zeros(int64_t bytes, std::unique_ptr<void, void (*)(void*)>& memory) {
  constexpr size_t alignment = 64, page = 2 << 20;
  const bool large = bytes >= static_cast<int64_t>(4 * page);
  const size_t start = large ? page : alignment;
  memory.reset(std::calloc(static_cast<size_t>(bytes) + start, 1));
  if (!memory) throw std::bad_alloc();
  const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
  char* const at = static_cast<char*>(memory.get()) + (start - address % start) % start;
#ifdef __linux__
  if (large) madvise(at, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  return reinterpret_cast<double*>(at);
}

}  // namespace

class GroupSums::Pass {
 public:
  Pass(GroupSums& out, const Matrix<const float>& X, const Matrix<const float>& y,
       const GroupedRows& rows)
      : out_(out), X_(X), y_(y), group_(rows.group()), rows_(rows.rows()), d_(out.d_) {}

  void run() {
    if (X_.cs == 1 && out_.groups_ * bytes_each() <= most_table) {
      add({rows_, d_, X_.data, X_.rs, y_.data, y_.rs, group_, 1, out_.table_, out_.entry_,
           L<float>},
          out_.whole_);
    } else {
      in_parts();
    }
    std::stable_sort(out_.whole_.begin(), out_.whole_.end(),
                     [](const Whole& a, const Whole& b) { return a.group < b.group; });
  }

 private:
  int64_t bytes_each() const { return out_.entry_ * static_cast<int64_t>(sizeof(double)); }

  // An entry that has the sums of a whole segment begins again.
  void add(GroupSumsArgs args, std::vector<Whole>& whole) const {
    while (args.rows > 0) {
      const int64_t done = isa<float>().group_sums(args);
      const int64_t last = args.group[(done - 1) * args.group_step];
      double* const sums = args.table + last * args.entry;
      if (sums[ones()] == static_cast<double>(args.segment)) {
        whole.push_back({last, {sums, sums + triangle(d_)}});
        std::fill(sums, sums + args.entry, 0.0);
      }
      args.rows -= done;
      args.X += done * args.X_rs;
      args.y += done * args.y_rs;
      args.group += done * args.group_step;
    }
  }
  int64_t ones() const { return triangle(d_) - 3; }

  // Each record: its group, x and y.
  int64_t width() const { return d_ + 2; }

  void in_parts() {
    int shift = 0;
    while ((int64_t{2} << shift) * bytes_each() <= part_bytes) ++shift;
    const int64_t parts = ((out_.groups_ - 1) >> shift) + 1;
    const int64_t record = width() * static_cast<int64_t>(sizeof(float));
    // Reading the table again for each lot of rows costs less than dealing them.
    const int64_t lot =
        std::min(rows_, std::max(least_dealt, out_.groups_ * bytes_each() * 3 / 2) / record);
    std::unique_ptr<Record[]> records(new Record[static_cast<size_t>(lot * width())]);
    std::vector<std::vector<Whole>> whole(static_cast<size_t>(parts));
    for (int64_t first = 0; first < rows_; first += lot) {
      const int64_t count = std::min(lot, rows_ - first);
      const std::vector<int64_t> starts = deal(first, count, shift, parts, records.get());
      on_threads(parts, count, [&](int64_t part) {
        const Record* const r = records.get() + starts[part] * width();
        add({starts[part + 1] - starts[part], d_, &r[1].number, width(), &r[1 + d_].number, width(),
             &r[0].group, width(), out_.table_, out_.entry_, L<float>},
            whole[part]);
      });
    }
    for (auto& of_part : whole)
      std::move(of_part.begin(), of_part.end(), std::back_inserter(out_.whole_));
  }

  union Record {
    uint32_t group;
    float number;
  };

  // Rows [first, first + count) to the part of their group, in their order. Returns where each part
  // begins.
  std::vector<int64_t> deal(int64_t first, int64_t count, int shift, int64_t parts,
                            Record* out) const {
    const int64_t pieces = std::clamp<int64_t>(count / rows_of_piece, 1, most_pieces);
    std::vector<int64_t> next(static_cast<size_t>(pieces * parts), 0);
    const auto each_piece = [&](auto&& work) {
      on_threads(pieces, count, [&](int64_t piece) {
        work(first + count * piece / pieces, first + count * (piece + 1) / pieces,
             next.data() + piece * parts);
      });
    };
    each_piece([&](int64_t begin, int64_t end, int64_t* to) {
      for (int64_t i = begin; i < end; ++i) ++to[group_[i] >> shift];
    });
    std::vector<int64_t> starts(static_cast<size_t>(parts) + 1, 0);
    int64_t total = 0;
    for (int64_t part = 0; part < parts; ++part) {
      for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t here = next[piece * parts + part];
        next[piece * parts + part] = total;
        total += here;
      }
      starts[part + 1] = total;
    }
    each_piece([&](int64_t begin, int64_t end, int64_t* to) {
      switch (X_.cs == 1 ? d_ : 0) {
        case 1: return write<1>(begin, end, shift, to, out);
        case 2: return write<2>(begin, end, shift, to, out);
        case 3: return write<3>(begin, end, shift, to, out);
        case 4: return write<4>(begin, end, shift, to, out);
        case 5: return write<5>(begin, end, shift, to, out);
        case 6: return write<6>(begin, end, shift, to, out);
        default: return write<0>(begin, end, shift, to, out);
      }
    });
    return starts;
  }

  // D: contiguous features, or 0.
  template <int D>
  void write(int64_t begin, int64_t end, int shift, int64_t* to, Record* out) const {
    const int64_t d = D > 0 ? D : d_, cs = D > 0 ? 1 : X_.cs;
    for (int64_t i = begin; i < end; ++i) {
      Record* const r = out + to[group_[i] >> shift]++ * (d + 2);
      const float* const x = X_.data + i * X_.rs;
      r[0].group = group_[i];
      for (int64_t j = 0; j < d; ++j) r[1 + j].number = x[j * cs];
      r[1 + d].number = y_.data[i * y_.rs];
    }
  }

  // work(i) for i < count.
  template <class Work>
  void on_threads(int64_t count, int64_t rows, Work&& work) const {
    std::atomic<int64_t> free{0};
    const auto threads = threads_for(count, rows * triangle(d_));
    parallel_for(threads, threads, [&](int64_t, int64_t, int) {
      for (int64_t i; (i = free++) < count;) work(i);
    });
  }

  GroupSums& out_;
  const Matrix<const float>&X_, &y_;
  const uint32_t* group_;
  int64_t rows_, d_;
};

GroupSums::GroupSums(const Matrix<const float>& X, const Matrix<const float>& y, int64_t d,
                     const GroupedRows& rows)
    : d_(d),
      groups_(rows.groups()),
      entry_((triangle(d) + line - 1) / line * line),
      memory_(nullptr, std::free) {
  table_ = zeros(groups_ * entry_ * static_cast<int64_t>(sizeof(double)), memory_);
  Pass(*this, X, y, rows).run();
}

void GroupSums::moments(int64_t group, Moments& out) const {
  out.reset(d_, 1);
  const int64_t columns = out.columns();
  const auto put = [&](const double* sums) {
    const auto to = [&](int64_t at) {
      const Pair sum = add({out.hi[at], out.lo[at]}, {*sums++, 0.0});
      out.hi[at] = sum.hi;
      out.lo[at] = sum.lo;
    };
    for (int64_t a = 0; a <= d_; ++a)
      for (int64_t b = a; b < columns; ++b) to(a * columns + b);
    to((d_ + 1) * columns);
  };
  const auto first = std::lower_bound(whole_.begin(), whole_.end(), group,
                                      [](const Whole& w, int64_t g) { return w.group < g; });
  for (auto w = first; w != whole_.end() && w->group == group; ++w) {
    out.begin_segments(1);
    put(w->sums.data());
  }
  const double* const last = table_ + group * entry_;
  if (last[triangle(d_) - 3] > 0) {
    out.begin_segments(1);
    put(last);
  }
  out.close();
}

}  // namespace gdcore
