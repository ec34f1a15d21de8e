// Every kernel on small and odd shapes, without XLA. Results must be equal bit for bit for every number of
// threads, every set of kept arrays and with or without gradients, and finite; otherwise the program ends with 1.
//
// It prints name, size and checksum of each result. Memory begins as NaN, so results show what reads it too early.
//
// Arguments: a file for the values (float32, in the order of the printed lines), then numbers of threads.

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#if defined(LLM60_EMULATED_AMX)
#include "emulated_amx.h"
#endif

#include "head.h"
#include "orthogonal.h"
#include "pack.h"
#include "writing.h"

using namespace llm60;

void* operator new(size_t size, std::align_val_t alignment) {
  void* p = nullptr;
  if (posix_memalign(&p, (size_t)alignment, size)) std::abort();
  return std::memset(p, 0xFF, size);
}
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace {

// The results by name. The first run of each is what the others must equal.
class Results {
 public:
  bool are_sound = true;

  void add(const std::string& name, const float* values, size_t size) {
    const auto [place, is_first] = all_.try_emplace(name, values, values + size);
    bool sound = place->second.size() == size && !std::memcmp(place->second.data(), values, size * sizeof(float));
    for (size_t i = 0; i < size; i++) sound = sound && std::isfinite(values[i]);
    if (!sound) std::printf("%s: %s\n", name.c_str(), is_first ? "not finite" : "differs between runs");
    are_sound = are_sound && sound;
  }
  void print(const char* path) const {
    FILE* file = path ? std::fopen(path, "wb") : nullptr;
    for (const auto& [name, values] : all_) {
      uint32_t checksum = 0;
      for (const float value : values) checksum = checksum * 31 + ((U32)splat(value))[0];
      std::printf("%s %zu %08x\n", name.c_str(), values.size(), checksum);
      if (file) std::fwrite(values.data(), sizeof(float), values.size(), file);
    }
    if (file) std::fclose(file);
  }

 private:
  std::map<std::string, std::vector<float>> all_;
};
Results results;

// A team with threads of its own; the last of four comes when the work is over.
class Crew {
 public:
  explicit Crew(long threads) {
    team_ = std::make_unique<Team>(threads, [this](std::function<void()> f) {
      threads_.size() < 2 ? (void)threads_.emplace_back(std::move(f)) : (void)(late_ = std::move(f));
    });
  }
  ~Crew() {
    team_.reset();
    if (late_) late_();
    for (std::thread& thread : threads_) thread.join();
  }
  Team& operator*() { return *team_; }

 private:
  std::vector<std::thread> threads_;
  std::function<void()> late_;
  std::unique_ptr<Team> team_;
};

// Values between `centre - scale` and `centre + scale`; equal seeds give equal values.
Array<float> random(long size, uint32_t seed, float scale, float centre = 0) {
  Array<float> x(size);
  for (long i = 0; i < size; i++) {
    uint32_t bits = ((uint32_t)i + seed * 0x10001u) * 0x9E3779B9u;
    bits = (bits ^ (bits >> 16)) * 0x21F0AAADu;
    x[i] = centre + scale * ((float)((bits ^ (bits >> 15)) >> 8) / (1 << 23) - 1);
  }
  return x;
}
Array<float> zeros(long size) { return random(size, 0, 0); }

template <class T>
T* when(bool wanted, const Array<T>& x) {
  return wanted ? (T*)x : nullptr;
}

// The parameters of a stack.
struct Model {
  explicit Model(const Sizes& n)
      : scale(random(2 * n.L * n.D, 1, 0.2f, 1)), bias(random(2 * n.L * n.D, 2, 0.2f)),
        qkv(random(n.L * n.D * 3 * n.D, 3, 2 / std::sqrt((float)n.D))),
        out(random(n.L * n.D * n.D, 4, 1 / std::sqrt((float)n.D))),
        up(random(n.L * n.D * n.U(), 5, 2 / std::sqrt((float)n.D))),
        down(random(n.L * n.F * n.D, 6, 1 / std::sqrt((float)n.F))),
        norms{scale, bias, scale + n.L * n.D, bias + n.L * n.D}, cosines(n.T * n.K() / 2), sines(n.T * n.K() / 2) {
    for (long i = 0; i < n.T * n.K() / 2; i++) {
      const float angle = i / (n.K() / 2) * std::pow(1e-4f, i % (n.K() / 2) / (n.K() / 2.0f));
      cosines[i] = std::cos(angle), sines[i] = std::sin(angle);
    }
  }
  Array<float> scale, bias, qkv, out, up, down;
  Norms norms;
  Array<float> cosines, sines;
};

// The matrices of a model as operands of products.
template <class E>
struct Operands {
  Operands(Team& team, const Sizes& n, const Model& model, bool transposed)
      : qkv(n.L * n.D * 3 * n.D / GROUP<E>), out(n.L * n.D * n.D / GROUP<E>), up(n.L * n.D * n.U() / GROUP<E>),
        down(n.L * n.F * n.D / GROUP<E>) {
    const auto packed = [&](long rows, long columns, long group, const float* w, uint32_t* panels) {
      pack<E>(team, n.L, rows, columns, transposed, transposed ? 0 : group, w, panels);
      return transposed ? Packed{panels, columns, rows} : Packed{panels, rows, columns};
    };
    weights = {packed(n.D, 3 * n.D, n.K(), model.qkv, qkv), packed(n.D, n.D, 0, model.out, out),
               packed(n.D, n.U(), n.gated ? n.U() : 0, model.up, up), packed(n.F, n.D, 0, model.down, down)};
  }
  Array<uint32_t> qkv, out, up, down;
  Weights weights;
};

enum Keeps { ALL, ATTENTION, INPUTS };

template <class E>
void run_stack(const std::string& name, const Sizes& n, float dropout, long threads, Keeps keeps) {
  Crew crew(threads);
  const long N = n.N(), D = n.D, L = n.L;
  const Model model(n);
  const Operands<E> plain(*crew, n, model, false), transposed(*crew, n, model, true);
  Array<int32_t> segments(N);
  for (long i = 0; i < N; i++) segments[i] = i % n.T / 13;
  const uint32_t keys[] = {1, 2, 3, 4, 5, 6};
  const Stack<E> stack{n, model.norms, model.cosines, model.sines, segments, keys, (uint32_t)(dropout * 4294967296.0),
                       1 / (1 - dropout), n.F - 5};
  const Array<float> x = random(N * D, 7, 2), y(N * D), d = random(N * D, 8, 1);
  const Array<float> inputs((L - 1) * N * D), logs(L * N * n.H), middle(L * N * D);
  const Array<E> qkv(L * N * 3 * D), o(L * N * D), up(L * N * n.U());
  const Kept<E> kept{inputs, when(keeps == ALL, qkv), when(keeps != INPUTS, o), when(keeps != INPUTS, logs),
                     when(keeps == ALL, middle), when(keeps == ALL, up)};
  stack_forward(*crew, stack, plain.weights, x, kept, y);
  results.add(name + "y", y, N * D);
  const Counts counts = (*crew).counts();
  const float evidence[] = {(float)counts.operations, (float)counts.pairs, (float)counts.dropped};
  results.add(name + "counts", evidence, 3);
  stack_forward(*crew, stack, plain.weights, x, {}, y);
  results.add(name + "y", y, N * D);
  const Array<float> norms[] = {zeros(L * D), zeros(L * D), zeros(L * D), zeros(L * D)};
  const Array<float> d_qkv = zeros(L * D * 3 * D), d_out = zeros(L * D * D), d_up = zeros(L * D * n.U()),
                     d_down = zeros(L * n.F * D);
  stack_backward(*crew, stack, plain.weights, transposed.weights, x, kept, d,
                 {norms[0], norms[1], d_qkv, d_out, norms[2], norms[3], d_up, d_down});
  results.add(name + "d_x", d, N * D);
  for (int i = 0; i < 4; i++) results.add(name + "d_norms" + std::to_string(i), norms[i], L * D);
  results.add(name + "d_qkv", d_qkv, L * D * 3 * D), results.add(name + "d_out", d_out, L * D * D);
  results.add(name + "d_up", d_up, L * D * n.U()), results.add(name + "d_down", d_down, L * n.F * D);
}

template <class E>
void run_head(const std::string& name, long N, long D, long size, long threads, bool hidden, bool table) {
  Crew crew(threads);
  const long V = round_up(size, BLOCK);
  const Array<float> x = random(N * D, 1, 2), w = random(V * D, 2, 1), weights = random(N, 3, 1, 1);
  Array<int32_t> targets(N);
  for (long i = 0; i < N; i++) targets[i] = (i * 37 + size - 1) % size;
  const Array<uint32_t> by_piece(V * D / GROUP<E>), by_width(V * D / GROUP<E>);
  pack<E>(*crew, 1, V, D, true, 0, w, by_piece), pack<E>(*crew, 1, V, D, false, 0, w, by_width);
  const Array<float> losses(N), d_x(N * D), d_w(V * D);
  head<E>(*crew, N, D, {V, size}, {x, w, by_piece, when(hidden, by_width), targets, weights},
          {losses, when(hidden, d_x), when(table, d_w)});
  results.add(name + "losses", losses, N);
  if (hidden) results.add(name + "d_hidden", d_x, N * D);
  if (table) results.add(name + "d_table", d_w, V * D);
}

// `matrices` of [I, O] side by side.
template <class E>
void run_orthogonal(const std::string& name, long I, long O, long matrices, long threads) {
  Crew crew(threads);
  const long stride = matrices * O;
  const Array<float> x = random(I * stride, 1, 3), y(I * stride);
  for (long i = 0; i < I; i++) std::memset(x + i * stride, 0, O / 2 * sizeof(float));  // a rank of half the width
  (*crew).run(matrices, [&](long task, Worker& worker) {
    orthogonalize<E>(worker, I, O, x + task * O, y + task * O, stride);
  });
  results.add(name, y, I * stride);
}

void run_writing(const std::string& name, const Sizes& n, long threads) {
  Crew crew(threads);
  const Model model(n);
  const long size = n.L * n.B * n.D * n.T, V = 77;
  const Array<float> x = random(n.B * n.D, 1, 1), table = random(V * n.D, 2, 1), logits_BV(n.B * V);
  const Array<float> keys(size), values(size);  // n.T positions
  for (long t = 0; t < n.T; t++)
    Writing(*crew, n, n.T, model.norms, {model.qkv, model.out, model.up, model.down},
            model.cosines + t * n.K() / 2, model.sines + t * n.K() / 2)
        .run(x, keys, values, t);
  logits(*crew, n.B, n.D, V, x, table, logits_BV);
  results.add(name + "x", x, n.B * n.D), results.add(name + "logits", logits_BV, n.B * V);
  results.add(name + "keys", keys, size), results.add(name + "values", values, size);
}

template <class E>
void run_all(const std::string& type, long threads) {
  //                        L  B  T   D    H  F    gated
  const Sizes stacks[] = {{3, 2, 37, 64, 2, 32, false},
                          {1, 1, 1, 32, 1, 32, true},
                          {1, 3, 45, 64, 1, 448, true},
                          {2, 1, 96, 128, 1, 64, false}};
  for (const Sizes& n : stacks)
    for (const float dropout : {0.0f, 0.25f})
      for (const Keeps keeps : {ALL, ATTENTION, INPUTS})
        run_stack<E>(type + "/stack/" + std::to_string(&n - stacks) + (dropout ? "/dropout/" : "/"), n, dropout,
                     threads, keeps);
  //                             N     D   pieces
  const long heads[][3] = {{1, 32, 31}, {77, 32, 600}, {1101, 32, 70}, {5, 32, 8300}};
  for (const auto& [N, D, size] : heads)
    for (const int wanted : {3, 2, 1, 0})
      run_head<E>(type + "/head/" + std::to_string(N) + "/", N, D, size, threads, wanted & 1, wanted & 2);
  //                                I   O    matrices
  const long orthogonal[][3] = {{32, 32, 3}, {64, 160, 1}, {160, 32, 2}};
  for (const auto& [I, O, matrices] : orthogonal)
    run_orthogonal<E>(type + "/orthogonal/" + std::to_string(I), I, O, matrices, threads);
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<long> teams;
  for (int i = 2; i < count; i++) teams.push_back(std::atol(arguments[i]));
  if (teams.empty()) teams = {1, 2, 4};
  for (const long threads : teams) {
    run_all<float>("float32", threads);
#if LLM60_BF16
    run_all<Bf16>("bfloat16", threads);
#endif
    run_writing("writing/gelu/", {2, 3, 19, 64, 2, 32, false}, threads);
    run_writing("writing/swiglu/", {1, 1, 9, 128, 1, 448, true}, threads);
  }
  results.print(count > 1 ? arguments[1] : nullptr);
  return results.are_sound ? 0 : 1;
}
