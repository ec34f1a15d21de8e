// The calls that XLA makes (jax.ffi). Each checks the type and shape of every array before it uses any.

#include "head.h"
#include "orthogonal.h"
#include "pack.h"
#include "peak.h"
#include "writing.h"
#include "xla/ffi/api/ffi.h"

namespace llm60 {
namespace {

namespace ffi = xla::ffi;

template <class T>
constexpr ffi::DataType TYPE = std::is_same_v<T, float>      ? ffi::F32
                               : std::is_same_v<T, int32_t>  ? ffi::S32
                               : std::is_same_v<T, uint32_t> ? ffi::U32
                                                             : ffi::U16;  // Bf16 travels as bits

// A call's arrays and attributes, read in order. The first fault is kept, and ends the call.
class Call {
 public:
  using Shape = std::initializer_list<long>;

  Call(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets results, ffi::Dictionary attributes)
      : pool_(pool), args_(args), results_(results), attributes_(attributes) {}

  void require(bool holds, const std::string& fault) {
    if (!holds && fault_.empty()) fault_ = fault;
  }
  bool is_sound() const { return fault_.empty(); }

  // The next argument, or the next result; null if it differs from this shape. Some may be left empty, and are null
  // then.
  template <class T>
  const T* argument(Shape shape, bool may_be_empty = false) {
    const auto array = args_.get<ffi::AnyBuffer>(next_argument_++);
    require(array.has_value(), "an argument is missing");
    if (!array.has_value()) return nullptr;
    return checked<T>("argument " + std::to_string(next_argument_), *array, shape, may_be_empty);
  }
  template <class T>
  T* result(Shape shape, bool may_be_empty = false) {
    auto array = results_.get<ffi::AnyBuffer>(next_result_++);
    require(array.has_value(), "a result is missing");
    if (!array.has_value()) return nullptr;
    return checked<T>("result " + std::to_string(next_result_), **array, shape, may_be_empty);
  }
  // The next argument and the next result, which share their memory.
  float* updated(Shape shape) {
    const float* before = argument<float>(shape);
    float* after = result<float>(shape);
    require(before == after, "an array is not updated in place");
    return after;
  }
  // The size of an argument's axis, 0 if it has none.
  long size(size_t argument, size_t axis) const {
    const auto array = args_.get<ffi::AnyBuffer>(argument);
    return array.has_value() && axis < array->dimensions().size() ? array->dimensions()[axis] : 0;
  }
  template <class T>
  T attribute(const char* name) {
    const auto value = attributes_.get<T>(name);
    require(value.has_value(), std::string(name) + " is missing");
    return value.has_value() ? *value : T{};
  }

  // Do the work with a team of threads, unless there was a fault; `counts`: report its counts as the last result.
  template <class Work>
  ffi::Error run(bool counts, const Work& work) {
    float* limbs = counts ? result<float>({3, 8}) : nullptr;
    if (!is_sound()) return {ffi::ErrorCode::kInvalidArgument, "native kernels: " + fault_};
    const auto schedule = [this](std::function<void()> f) { pool_.Schedule(std::move(f)); };
    Team team(pool_.num_threads() > 0 ? pool_.num_threads() : 1, schedule);
    work(team);
    // Eight limbs of 8 bits: float32 adds those of 65,536 calls without rounding.
    const Counts all = team.counts();
    for (int64_t count : {all.operations, all.pairs, all.dropped})
      for (int i = 0; limbs && i < 8; i++, count >>= 8) *limbs++ = count & 0xFF;
    return ffi::Error::Success();
  }

 private:
  template <class T>
  T* checked(const std::string& name, const ffi::AnyBuffer& array, Shape shape, bool may_be_empty) {
    const auto found = array.dimensions();
    if (may_be_empty && found.size() == 1 && found[0] == 0) return nullptr;
    bool same = found.size() == shape.size() && array.element_type() == TYPE<T>;
    for (size_t i = 0; same && i < shape.size(); i++) same = found[i] == shape.begin()[i];
    if (same) return static_cast<T*>(array.untyped_data());
    std::string text = name + " has the wrong type or shape [";
    for (const auto size : found) text += std::to_string(size) + ",";
    require(false, text + "]");
    return nullptr;
  }

  ffi::ThreadPool pool_;
  const ffi::RemainingArgs args_;
  const ffi::RemainingRets results_;
  const ffi::Dictionary attributes_;
  size_t next_argument_ = 0, next_result_ = 0;
  std::string fault_;
};

Sizes sizes_of(Call& call, long L, long B, long T, long D) {
  const Sizes n{L, B, T, D, (long)call.attribute<int64_t>("heads"), (long)call.attribute<int64_t>("hidden"),
                call.attribute<bool>("gated")};
  const bool positive = L > 0 && B > 0 && T > 0 && D > 0 && n.H > 0 && n.F > 0;
  call.require(positive && D % BLOCK == 0 && n.F % BLOCK == 0, "widths must be multiples of 32");
  const bool fits = positive && D % n.H == 0 && (n.K() == 32 || n.K() == 64 || n.K() == 128);
  call.require(fits, "heads must be 32, 64 or 128 wide");
  if (call.is_sound()) return n;
  return {1, 1, 1, 32, 1, 32, false};  // divisible, for the checks that follow
}

Norms norms_of(Call& call, const Sizes& n) {
  const auto next = [&] { return call.argument<float>({n.L, n.D}); };
  const float *scale = next(), *bias = next(), *mlp_scale = next();
  return {scale, bias, mlp_scale, next()};
}

template <class E>
Weights weights_of(Call& call, const Sizes& n, bool transposed) {
  const auto next = [&](long rows, long columns) -> Packed {
    const uint32_t* panels = call.argument<uint32_t>({n.L, rows * columns / GROUP<E>});
    return transposed ? Packed{panels, columns, rows} : Packed{panels, rows, columns};
  };
  const Packed qkv = next(n.D, 3 * n.D), out = next(n.D, n.D), up = next(n.D, n.U());
  return {qkv, out, up, next(n.F, n.D)};
}

template <class E>
Stack<E> stack_of(Call& call, const Sizes& n) {
  Stack<E> stack;
  stack.n = n;
  stack.cos_TK = call.argument<float>({n.T, n.K() / 2}), stack.sin_TK = call.argument<float>({n.T, n.K() / 2});
  stack.segments_BT = call.argument<int32_t>({n.B, n.T});
  stack.norms = norms_of(call, n);
  stack.dropout_L2 = call.argument<uint32_t>({n.L, 2});
  const int64_t threshold = call.attribute<int64_t>("threshold");
  call.require(threshold >= 0 && threshold >> 32 == 0, "the rate of dropout is not a share");
  stack.dropout_threshold = threshold, stack.dropout_scale = call.attribute<float>("scale");
  stack.dropout_width = call.attribute<int64_t>("dropout_width");
  return stack;
}

template <class E>
Kept<E> kept_of(Call& call, const Sizes& n, bool are_results) {
  const auto next = [&](auto type, Call::Shape shape) {
    using T = decltype(type);
    return are_results ? call.result<T>(shape, true) : const_cast<T*>(call.argument<T>(shape, true));
  };
  const long L = n.L, N = n.N();
  Kept<E> kept;
  kept.x_LND = next(float{}, {L - 1, n.B, n.T, n.D});
  kept.qkv_LN3D = next(E{}, {L, N, 3 * n.D}), kept.o_LND = next(E{}, {L, N, n.D});
  kept.logs_LBHT = next(float{}, {L, n.B, n.H, n.T}), kept.middle_LND = next(float{}, {L, N, n.D});
  kept.up_LNU = next(E{}, {L, N, n.U()});
  call.require(!kept.qkv_LN3D == !kept.middle_LND && !kept.qkv_LN3D == !kept.up_LNU && !kept.o_LND == !kept.logs_LBHT,
               "some of the kept arrays are missing");
  return kept;
}

template <class E>
ffi::Error stack_forward_call(Call& call) {
  const Sizes n = sizes_of(call, call.size(4, 0), call.size(0, 0), call.size(0, 1), call.size(0, 2));
  const float* x = call.argument<float>({n.B, n.T, n.D});
  const Stack<E> stack = stack_of<E>(call, n);
  const Weights weights = weights_of<E>(call, n, false);
  float* y = call.result<float>({n.B, n.T, n.D});
  const Kept<E> kept = kept_of<E>(call, n, true);
  return call.run(true, [&](Team& team) { stack_forward(team, stack, weights, x, kept, y); });
}

template <class E>
ffi::Error stack_backward_call(Call& call) {
  const Sizes n = sizes_of(call, call.size(4, 0), call.size(0, 0), call.size(0, 1), call.size(0, 2));
  const long L = n.L, D = n.D;
  const float* x = call.argument<float>({n.B, n.T, D});
  const Stack<E> stack = stack_of<E>(call, n);
  const Weights weights = weights_of<E>(call, n, false), transposed = weights_of<E>(call, n, true);
  const Kept<E> kept = kept_of<E>(call, n, false);
  call.require(L == 1 || kept.x_LND, "the inputs of the blocks were not kept");
  const float* d_y = call.argument<float>({n.B, n.T, D});
  float* d_x = call.result<float>({n.B, n.T, D});
  typename Stack<E>::Gradients to;
  to.attention_scale_LD = call.updated({L, D}), to.attention_bias_LD = call.updated({L, D});
  to.mlp_scale_LD = call.updated({L, D}), to.mlp_bias_LD = call.updated({L, D});
  to.qkv_LD3D = call.updated({L, D, 3 * D}), to.out_LDD = call.updated({L, D, D});
  to.up_LDU = call.updated({L, D, n.U()}), to.down_LFD = call.updated({L, n.F, D});
  return call.run(true, [&](Team& team) {
    if (d_x != d_y) std::memcpy(d_x, d_y, n.N() * D * sizeof(float));
    stack_backward(team, stack, weights, transposed, x, kept, d_x, to);
  });
}

template <class E>
ffi::Error head_call(Call& call) {
  const long N = call.size(0, 0), D = call.size(0, 1), V = call.size(1, 0);
  const long size = call.attribute<int64_t>("vocabulary");
  call.require(N > 0 && D > 0 && V > 0 && D % BLOCK == 0 && V % BLOCK == 0, "widths must be multiples of 32");
  call.require(size > 0 && size <= V && V - size < BLOCK, "the vocabulary does not fit its table");
  HeadInputs in;
  in.hidden_ND = call.argument<float>({N, D}), in.table_VD = call.argument<float>({V, D});
  in.by_piece = call.argument<uint32_t>({1, V * D / GROUP<E>});
  in.by_width = call.argument<uint32_t>({1, V * D / GROUP<E>}, true);
  in.targets_N = call.argument<int32_t>({N}), in.weights_N = call.argument<float>({N});
  HeadOutputs out;
  out.losses_N = call.result<float>({N});
  out.d_hidden_ND = call.result<float>({N, D}, true), out.d_table_VD = call.result<float>({V, D}, true);
  call.require(!out.d_hidden_ND || in.by_width, "the packed table of the gradient is missing");
  for (long i = 0; call.is_sound() && i < N; i++)
    call.require(in.targets_N[i] >= 0 && in.targets_N[i] < size, "a target is outside the vocabulary");
  return call.run(true, [&](Team& team) { head<E>(team, N, D, {V, size}, in, out); });
}

template <class E>
ffi::Error pack_call(Call& call) {
  const long n = call.size(0, 0), rows = call.size(0, 1), columns = call.size(0, 2);
  const bool transposed = call.attribute<bool>("transposed");
  const long group = call.attribute<int64_t>("group");
  call.require(rows % BLOCK == 0 && columns % BLOCK == 0, "widths must be multiples of 32");
  call.require(group >= 0 && group % PANEL == 0 && (!group || columns % group == 0), "the group does not divide");
  const float* w = call.argument<float>({n, rows, columns});
  uint32_t* panels = call.result<uint32_t>({n, rows * columns / GROUP<E>});
  return call.run(false, [&](Team& team) { pack<E>(team, n, rows, columns, transposed, group, w, panels); });
}

template <class E>
ffi::Error orthogonalize_call(Call& call) {
  const long n = call.size(0, 0), I = call.size(0, 1), m = call.size(0, 2), O = call.size(0, 3);
  call.require(I > 0 && O > 0 && I % BLOCK == 0 && O % BLOCK == 0, "widths must be multiples of 32");
  const float* x = call.argument<float>({n, I, m, O});
  float* y = call.result<float>({n, I, m, O});
  return call.run(false, [&](Team& team) {
    team.run(n * m, [&](long task, Worker& worker) {
      const long first = task / m * I * m * O + task % m * O;
      orthogonalize<E>(worker, I, O, x + first, y + first, m * O);
    });
  });
}

ffi::Error write_call(Call& call) {
  const Sizes n = sizes_of(call, call.size(3, 0), call.size(0, 0), 1, call.size(0, 1));
  const long L = n.L, D = n.D, S = call.size(12, 3);
  const float* x = call.argument<float>({n.B, D});
  const float *cosine = call.argument<float>({n.K() / 2}), *sine = call.argument<float>({n.K() / 2});
  const Norms norms = norms_of(call, n);
  Matrices w;
  w.qkv_LD3D = call.argument<float>({L, D, 3 * D}), w.out_LDD = call.argument<float>({L, D, D});
  w.up_LDU = call.argument<float>({L, D, n.U()}), w.down_LFD = call.argument<float>({L, n.F, D});
  const int32_t* position = call.argument<int32_t>({});
  float* y = call.result<float>({n.B, D});
  float *keys = call.updated({L, n.B, n.H, S, n.K()}), *values = call.updated({L, n.B, n.H, S, n.K()});
  if (call.is_sound()) call.require(*position >= 0 && *position < S, "the position is beyond the caches");
  return call.run(false, [&](Team& team) {
    if (y != x) std::memcpy(y, x, n.B * D * sizeof(float));
    Writing(team, n, S, norms, w, cosine, sine).run(y, keys, values, *position);
  });
}

ffi::Error logits_call(Call& call) {
  const long B = call.size(0, 0), D = call.size(0, 1), V = call.size(1, 0);
  call.require(D % BLOCK == 0, "widths must be multiples of 32");
  const float *x = call.argument<float>({B, D}), *table = call.argument<float>({V, D});
  float* y = call.result<float>({B, V});
  return call.run(false, [&](Team& team) { logits(team, B, D, V, x, table, y); });
}

}  // namespace

#define LLM60_CALL(name, function)                                                                                     \
  static ffi::Error name##_handler(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets results,         \
                                   ffi::Dictionary attributes) {                                                       \
    Call call(pool, args, results, attributes);                                                                        \
    return function(call);                                                                                             \
  }                                                                                                                    \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                                                       \
      name, name##_handler, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attrs())

LLM60_CALL(llm60_write, write_call);
LLM60_CALL(llm60_logits, logits_call);
LLM60_CALL(llm60_pack_float32, pack_call<float>);
LLM60_CALL(llm60_stack_forward_float32, stack_forward_call<float>);
LLM60_CALL(llm60_stack_backward_float32, stack_backward_call<float>);
LLM60_CALL(llm60_head_float32, head_call<float>);
LLM60_CALL(llm60_orthogonalize_float32, orthogonalize_call<float>);
#if LLM60_BF16
LLM60_CALL(llm60_pack_bfloat16, pack_call<Bf16>);
LLM60_CALL(llm60_stack_forward_bfloat16, stack_forward_call<Bf16>);
LLM60_CALL(llm60_stack_backward_bfloat16, stack_backward_call<Bf16>);
LLM60_CALL(llm60_head_bfloat16, head_call<Bf16>);
LLM60_CALL(llm60_orthogonalize_bfloat16, orthogonalize_call<Bf16>);
#endif

// Operations a second in registers; no call of XLA's.
extern "C" double llm60_register_peak(long threads) { return register_peak(threads); }

}  // namespace llm60
