// Second moments of the rows of each group in one pass over the rows in their own order, into a
// table by group. Beyond a cache the rows are dealt to parts of the table first.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iterator>
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

constexpr int64_t line = 8;                  // doubles
constexpr int64_t most_table = 20 << 20;     // bytes of a table that shares a last cache with rows
constexpr int64_t part_bytes = 512 << 10;    // of the table: a second cache holds them
constexpr int64_t least_dealt = 32 << 20;    // bytes of rows that are dealt at a time
constexpr int64_t rows_at_a_time = 1 << 18;  // between pauses, if none are dealt
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
       std::shared_ptr<const GroupedRows> grouped)
      : out_(out),
        X_(X),
        y_(y),
        grouped_(std::move(grouped)),
        group_(grouped_->group()),
        rows_(grouped_->rows()),
        d_(out.d_),
        deals_(X_.cs != 1 || out_.groups_ * bytes_each() > most_table) {
    if (deals_) begin_parts();
  }

  // Some milliseconds, but longer where the table is large; true once all rows are in the sums.
  bool run() {
    const int64_t first = next_;
    next_ = std::min(rows_, first + (deals_ ? lot_ : rows_at_a_time));
    if (deals_)
      add_parts(first, next_ - first);
    else
      add({next_ - first, d_, X_.data + first * X_.rs, X_.rs, y_.data + first * y_.rs, y_.rs,
           group_ + first, 1, out_.table_, out_.entry_, L<float>},
          out_.whole_);
    if (next_ < rows_) return false;
    for (auto& of_part : whole_)
      std::move(of_part.begin(), of_part.end(), std::back_inserter(out_.whole_));
    std::stable_sort(out_.whole_.begin(), out_.whole_.end(),
                     [](const Whole& a, const Whole& b) { return a.group < b.group; });
    return true;
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

  void begin_parts() {
    while ((int64_t{2} << shift_) * bytes_each() <= part_bytes) ++shift_;
    parts_ = ((out_.groups_ - 1) >> shift_) + 1;
    const int64_t record = width() * static_cast<int64_t>(sizeof(float));
    // Reading the table again for each lot of rows costs less than dealing them.
    lot_ = std::min(rows_, std::max(least_dealt, out_.groups_ * bytes_each() * 3 / 4) / record);
    records_.reset(new Record[static_cast<size_t>(lot_ * width())]);
    whole_.resize(static_cast<size_t>(parts_));
  }

  void add_parts(int64_t first, int64_t count) {
    const std::vector<int64_t> starts = deal(first, count);
    on_threads(parts_, count, [&](int64_t part) {
      const Record* const r = records_.get() + starts[part] * width();
      add({starts[part + 1] - starts[part], d_, &r[1].number, width(), &r[1 + d_].number, width(),
           &r[0].group, width(), out_.table_, out_.entry_, L<float>},
          whole_[part]);
    });
  }

  union Record {
    uint32_t group;
    float number;
  };

  // Rows [first, first + count) to the part of their group, in their order. Returns where each part
  // begins.
  std::vector<int64_t> deal(int64_t first, int64_t count) const {
    const int64_t pieces = std::clamp<int64_t>(count / rows_of_piece, 1, most_pieces);
    std::vector<int64_t> next(static_cast<size_t>(pieces * parts_), 0);
    const auto each_piece = [&](auto&& work) {
      on_threads(pieces, count, [&](int64_t piece) {
        work(first + count * piece / pieces, first + count * (piece + 1) / pieces,
             next.data() + piece * parts_);
      });
    };
    each_piece([&](int64_t begin, int64_t end, int64_t* to) {
      for (int64_t i = begin; i < end; ++i) ++to[group_[i] >> shift_];
    });
    std::vector<int64_t> starts(static_cast<size_t>(parts_) + 1, 0);
    int64_t total = 0;
    for (int64_t part = 0; part < parts_; ++part) {
      for (int64_t piece = 0; piece < pieces; ++piece) {
        int64_t& to = next[piece * parts_ + part];
        const int64_t here = to;
        to = total;
        total += here;
      }
      starts[part + 1] = total;
    }
    each_piece([&](int64_t begin, int64_t end, int64_t* to) {
      switch (X_.cs == 1 ? d_ : 0) {
        case 1: return write<1>(begin, end, to);
        case 2: return write<2>(begin, end, to);
        case 3: return write<3>(begin, end, to);
        case 4: return write<4>(begin, end, to);
        case 5: return write<5>(begin, end, to);
        case 6: return write<6>(begin, end, to);
        default: return write<0>(begin, end, to);
      }
    });
    return starts;
  }

  // D: contiguous features, or 0.
  template <int D>
  void write(int64_t begin, int64_t end, int64_t* to) const {
    const int64_t d = D > 0 ? D : d_, cs = D > 0 ? 1 : X_.cs;
    for (int64_t i = begin; i < end; ++i) {
      Record* const r = records_.get() + to[group_[i] >> shift_]++ * (d + 2);
      const float* const x = X_.data + i * X_.rs;
      r[0].group = group_[i];
      for (int64_t j = 0; j < d; ++j) r[1 + j].number = x[j * cs];
      r[1 + d].number = y_.data[i * y_.rs];
    }
  }

  // work(i) for i < count.
  template <class Work>
  void on_threads(int64_t count, int64_t rows, Work&& work) const {
    const Team threads = threads_for(count, rows * triangle(d_));
    parallel_for(count, threads, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) work(i);
    });
  }

  GroupSums& out_;
  const Matrix<const float> X_, y_;
  const std::shared_ptr<const GroupedRows> grouped_;
  const uint32_t* const group_;
  const int64_t rows_, d_;
  const bool deals_;  // rows to parts of the table
  int64_t next_ = 0;  // those before it are in the sums
  // Used if rows are dealt: log2 of the groups in a part, the number of parts, the rows of a lot.
  int shift_ = 0;
  int64_t parts_ = 0, lot_ = 0;
  std::unique_ptr<Record[]> records_;
  std::vector<std::vector<Whole>> whole_;  // of each part
};

GroupSums::GroupSums(const Matrix<const float>& X, const Matrix<const float>& y, int64_t d,
                     std::shared_ptr<const GroupedRows> rows)
    : d_(d),
      groups_(rows->groups()),
      entry_((triangle(d) + line - 1) / line * line),
      memory_(nullptr, std::free) {
  table_ = zeros(groups_ * entry_ * static_cast<int64_t>(sizeof(double)), memory_);
  pass_ = std::make_unique<Pass>(*this, X, y, std::move(rows));
}

GroupSums::~GroupSums() = default;

bool GroupSums::advance(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (pass_) {
    if (pass_->run()) pass_.reset();
    if (Clock::now() >= end) break;
  }
  return !pass_;
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
