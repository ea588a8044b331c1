#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

struct Window {
  int64_t kernel[2], stride[2], padding[2], dilation[2];
};

Window window_of(const OpCall& call) {
  Window w{};
  const auto read = [&](const char* name, int64_t least, int64_t(&to)[2]) {
    const AttrValue& v = call.attr_of(name);
    if (v.n != 2)
      throw_arg(call.op->name, name, "two numbers (height, width)", cat(v.n < 0 ? 0 : v.n));
    for (int i = 0; i < 2; ++i) {
      if (v.i[i] < least || v.i[i] > (int64_t{1} << 31))
        throw_arg(call.op->name, name, cat(least, " to 2^31"), cat(v.i[i]));
      to[i] = v.i[i];
    }
  };
  read("kernel", 1, w.kernel);
  if (call.attr_of("stride").given())
    read("stride", 1, w.stride);
  else
    std::copy(w.kernel, w.kernel + 2, w.stride);
  read("padding", 0, w.padding);
  w.dilation[0] = w.dilation[1] = 1;
  if (call.op->attr_index("dilation") >= 0) read("dilation", 1, w.dilation);
  for (int i = 0; i < 2; ++i)
    if (w.padding[i] > w.kernel[i] / 2)
      throw_arg(call.op->name, "padding", "at most half the kernel", cat(w.padding[i]));
  return w;
}

void infer(OpCall& call) {
  const View& x = call.in[0];
  if (x.rank() != 4)
    throw_arg(call.op->name, "x", "rank 4 (n, c, h, w)", cat("shape ", x.shape.str()));
  const Window w = window_of(call);
  const bool ceil = call.flag("ceil_mode");
  Shape out{x.shape[0], x.shape[1], 0, 0};
  for (int i = 0; i < 2; ++i) {
    const int64_t in = x.shape[2 + i];
    if (in < 1)
      throw_arg(call.op->name, "x", "spatial extents of 1 or more", cat("shape ", x.shape.str()));
    const int64_t reach = w.dilation[i] * (w.kernel[i] - 1) + 1;
    const int64_t room = in + 2 * w.padding[i] - reach;
    if (room < 0)
      throw_arg(call.op->name, "kernel",
                cat("a window within the padded extent ", in + 2 * w.padding[i]),
                cat("one that reaches over ", reach));
    int64_t n = (room + (ceil ? w.stride[i] - 1 : 0)) / w.stride[i] + 1;
    // The last window must start inside the input or its left padding.
    if (ceil && (n - 1) * w.stride[i] >= in + w.padding[i]) --n;
    out[2 + i] = n;
  }
  set_output(call, 0, out, x.dtype);
}

void reference(RefCall& r) {
  const bool is_max = std::string_view(r.call.op->name) == "max_pool2d";
  const bool count_padding = !is_max && r.call.flag("count_include_pad");
  const Window w = window_of(r.call);
  const Shape& x = r.in[0].shape;
  const Shape& o = r.out[0].shape;
  size_t at = 0;
  for (int64_t plane = 0; plane < o[0] * o[1]; ++plane)
    for (int64_t i = 0; i < o[2]; ++i)
      for (int64_t j = 0; j < o[3]; ++j) {
        double best = -std::numeric_limits<double>::infinity();
        double sum = 0;
        int64_t inside = 0;
        const int64_t h0 = i * w.stride[0] - w.padding[0];
        const int64_t w0 = j * w.stride[1] - w.padding[1];
        for (int64_t a = 0; a < w.kernel[0]; ++a)
          for (int64_t b = 0; b < w.kernel[1]; ++b) {
            const int64_t ih = h0 + a * w.dilation[0];
            const int64_t iw = w0 + b * w.dilation[1];
            if (ih < 0 || ih >= x[2] || iw < 0 || iw >= x[3]) continue;
            const double v = r.in[0][(plane * x[2] + ih) * x[3] + iw];
            if (v > best || std::isnan(v)) best = v;
            sum += v;
            ++inside;
          }
        // Windows that ceil_mode lets hang over the padding count only up to its end.
        const int64_t h1 = std::min(h0 + w.kernel[0], x[2] + w.padding[0]);
        const int64_t w1 = std::min(w0 + w.kernel[1], x[3] + w.padding[1]);
        const int64_t count = count_padding ? (h1 - h0) * (w1 - w0) : inside;
        r.out[0].v[at++] = is_max ? best : sum / f64(count);
      }
}

}  // namespace
}  // namespace lc

LC_OPS(pool) {
  using namespace lc;
  const int64_t ones[] = {1, 1};
  const int64_t zeros[] = {0, 0};
  for (const bool is_max : {true, false}) {
    OpDef op;
    op.name = is_max ? "max_pool2d" : "avg_pool2d";
    op.doc = is_max ? "Largest element of each window; NaN if there is one, padding never "
                      "wins.\n\nx: [n, c, h, w]."
                    : "Mean of each window.\n\nx: [n, c, h, w]. count_include_pad: padding counts "
                      "as zeros.";
    op.inputs = {{"x", kFloatTypes, false, "[n, c, h, w]"}};
    op.outputs = {"out"};
    op.attrs = {{"kernel", AttrKind::kInts, AttrValue::none(), {}, true, "height, width"},
                {"stride",
                 AttrKind::kInts,
                 AttrValue::none(),
                 {},
                 false,
                 "height, width; not given: the kernel's"},
                {"padding",
                 AttrKind::kInts,
                 AttrValue::list(zeros),
                 {},
                 false,
                 "on each side: height, width"}};
    if (is_max)
      op.attrs.push_back(
          {"dilation", AttrKind::kInts, AttrValue::list(ones), {}, false, "step between taps"});
    op.attrs.push_back({"ceil_mode",
                        AttrKind::kBool,
                        AttrValue::integer(0),
                        {},
                        false,
                        "round the output size up"});
    if (!is_max)
      op.attrs.push_back({"count_include_pad",
                          AttrKind::kBool,
                          AttrValue::integer(1),
                          {},
                          false,
                          "padding counts"});
    op.infer = infer;
    op.cost = [](const OpCall& call) {
      const AttrValue& k = call.attr_of("kernel");
      return streaming_cost(call, f64(call.out[0].numel()) * f64(k.i[0]) * f64(k.i[1]));
    };
    op.reference = reference;
    op.tolerance = {is_max ? 0.0 : 8.0, [](const OpCall& call) {
                      const AttrValue& k = call.attr_of("kernel");
                      return f64(k.i[0]) * f64(k.i[1]);
                    }};
    ops.push_back(std::move(op));
  }
}
