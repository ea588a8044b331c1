// A described call through the C API: the same views and attributes as plain structs.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "lightning_core/lightning_core.h"
#include "lightning_core/op_def.hpp"

namespace lc {

inline lcArray c_array(const View& v) {
  lcArray a = lcArrayOf(v.data, static_cast<lcDType>(v.dtype), v.rank(), v.shape.begin());
  a.strides = v.strides.begin();
  return a;
}

/// Points into the call, which must live and stay where it is.
struct CCall {
  const OpDef& op;
  std::vector<lcArray> inputs;
  std::vector<lcAttr> attrs;
  lcCallOptions options;

  explicit CCall(const OpCall& call) : op(*call.op) {
    for (int i = 0; i < call.n_in; ++i)
      inputs.push_back(call.in[i].present() ? c_array(call.in[i]) : lcArray{});
    for (size_t k = 0; k < op.attrs.size(); ++k) add_attr(op.attrs[k], call.attr[k]);
    lcCallOptionsInit(&options);
    options.device = device_name(call.device);
  }

  /// What lcOpInfer() says the output is, without memory.
  lcError_t infer(lcArray& out) const {
    out = {};
    return lcOpInfer(op.name, inputs.data(), static_cast<int>(inputs.size()), attrs.data(),
                     static_cast<int>(attrs.size()), &out, 1, &options);
  }
  lcError_t run(lcArray out) const {
    return lcOpCall(op.name, inputs.data(), static_cast<int>(inputs.size()), attrs.data(),
                    static_cast<int>(attrs.size()), &out, 1, &options);
  }

 private:
  void add_attr(const AttrSpec& spec, const AttrValue& v) {
    lcAttr a{spec.name, LC_ATTR_INT, 0, 0, nullptr, 0, nullptr};
    switch (spec.kind) {
      case AttrKind::kBool:
      case AttrKind::kInt:
        a.i = v.i[0];
        break;
      case AttrKind::kFloat:
        a.kind = LC_ATTR_FLOAT;
        a.f = v.f;
        break;
      case AttrKind::kInts:
        if (!v.given()) return;
        a.kind = LC_ATTR_INTS;
        a.list = v.i;
        a.n = v.n;
        break;
      case AttrKind::kEnum:
        a.kind = LC_ATTR_WORD;
        a.word = spec.words[static_cast<size_t>(v.i[0])];
        break;
      case AttrKind::kDType:
        a.kind = LC_ATTR_WORD;
        a.word = dtype_name(static_cast<DType>(v.i[0]));
        break;
    }
    attrs.push_back(a);
  }
};

}  // namespace lc
