#include "runtime/reference.hpp"

#include "tensor/scalar.hpp"

namespace lc {

RefArray to_ref_array(const View& view) {
  RefArray array;
  if (!view.present()) return array;
  array.shape = view.shape;
  array.v.resize(static_cast<size_t>(view.numel()));
  for_each_element(view, [&](const char* p, int64_t i) { array[i] = load_scalar(p, view.dtype); });
  return array;
}

void store_ref_array(const RefArray& from, const View& to) {
  for_each_element(to, [&](char* p, int64_t i) { store_scalar(p, to.dtype, from[i]); });
}

std::vector<RefArray> reference_outputs(const OpCall& call) {
  std::vector<RefArray> in;
  for (int i = 0; i < call.n_in; ++i) in.push_back(to_ref_array(call.in[i]));
  std::vector<RefArray> out(static_cast<size_t>(call.n_out));
  for (int i = 0; i < call.n_out; ++i) {
    RefArray& o = out[static_cast<size_t>(i)];
    o.shape = call.out[i].shape;
    o.v.assign(static_cast<size_t>(call.out[i].numel()), 0.0);
  }
  RefCall ref{call, in, out};
  call.op->reference(ref);
  return out;
}

}  // namespace lc
