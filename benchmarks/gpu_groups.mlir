// Fused groups that are checked and timed: ROWS and COLUMNS, HALF of them, are replaced by numbers.

// ----- residual

#same = affine_map<(d0, d1) -> (d0, d1)>
func.func @main(%x: tensor<ROWSxCOLUMNSxf16>, %y: tensor<ROWSxCOLUMNSxf16>) -> tensor<ROWSxCOLUMNSxf16> {
  %empty = tensor.empty() : tensor<ROWSxCOLUMNSxf16>
  %sum = linalg.generic {indexing_maps = [#same, #same, #same], iterator_types = ["parallel", "parallel"]}
      ins(%x, %y : tensor<ROWSxCOLUMNSxf16>, tensor<ROWSxCOLUMNSxf16>) outs(%empty : tensor<ROWSxCOLUMNSxf16>) {
  ^bb0(%a: f16, %b: f16, %o: f16):
    %wide_a = arith.extf %a : f16 to f32
    %wide_b = arith.extf %b : f16 to f32
    %added = arith.addf %wide_a, %wide_b : f32
    %rounded = arith.truncf %added : f32 to f16
    linalg.yield %rounded : f16
  } -> tensor<ROWSxCOLUMNSxf16>
  return %sum : tensor<ROWSxCOLUMNSxf16>
}

// ----- rms norm

#same = affine_map<(d0, d1) -> (d0, d1)>
#row = affine_map<(d0, d1) -> (d0)>
#column = affine_map<(d0, d1) -> (d1)>
func.func @main(%x: tensor<ROWSxCOLUMNSxf16>, %weight: tensor<COLUMNSxf16>) -> tensor<ROWSxCOLUMNSxf16> {
  %zero = arith.constant 0.000000e+00 : f32
  %count = arith.constant COLUMNS.0 : f32
  %epsilon = arith.constant 1.000000e-05 : f32
  %per_row = tensor.empty() : tensor<ROWSxf32>
  %none = linalg.fill ins(%zero : f32) outs(%per_row : tensor<ROWSxf32>) -> tensor<ROWSxf32>
  %squares = linalg.generic {indexing_maps = [#same, #row], iterator_types = ["parallel", "reduction"]}
      ins(%x : tensor<ROWSxCOLUMNSxf16>) outs(%none : tensor<ROWSxf32>) {
  ^bb0(%a: f16, %o: f32):
    %wide = arith.extf %a : f16 to f32
    %square = arith.mulf %wide, %wide : f32
    %sum = arith.addf %o, %square : f32
    linalg.yield %sum : f32
  } -> tensor<ROWSxf32>
  %empty = tensor.empty() : tensor<ROWSxCOLUMNSxf16>
  %normed = linalg.generic {indexing_maps = [#same, #row, #column, #same], iterator_types = ["parallel", "parallel"]}
      ins(%x, %squares, %weight : tensor<ROWSxCOLUMNSxf16>, tensor<ROWSxf32>, tensor<COLUMNSxf16>)
      outs(%empty : tensor<ROWSxCOLUMNSxf16>) {
  ^bb0(%a: f16, %total: f32, %w: f16, %o: f16):
    %mean = arith.divf %total, %count : f32
    %positive = arith.addf %mean, %epsilon : f32
    %inverse = math.rsqrt %positive : f32
    %wide = arith.extf %a : f16 to f32
    %unit = arith.mulf %wide, %inverse : f32
    %wide_w = arith.extf %w : f16 to f32
    %scaled = arith.mulf %unit, %wide_w : f32
    %rounded = arith.truncf %scaled : f32 to f16
    linalg.yield %rounded : f16
  } -> tensor<ROWSxCOLUMNSxf16>
  return %normed : tensor<ROWSxCOLUMNSxf16>
}

// ----- softmax

#same = affine_map<(d0, d1) -> (d0, d1)>
#row = affine_map<(d0, d1) -> (d0)>
func.func @main(%x: tensor<ROWSxCOLUMNSxf16>) -> tensor<ROWSxCOLUMNSxf16> {
  %zero = arith.constant 0.000000e+00 : f32
  %lowest = arith.constant 0xFF800000 : f32
  %per_row = tensor.empty() : tensor<ROWSxf32>
  %none = linalg.fill ins(%zero : f32) outs(%per_row : tensor<ROWSxf32>) -> tensor<ROWSxf32>
  %nothing = linalg.fill ins(%lowest : f32) outs(%per_row : tensor<ROWSxf32>) -> tensor<ROWSxf32>
  %tops = linalg.generic {indexing_maps = [#same, #row], iterator_types = ["parallel", "reduction"]}
      ins(%x : tensor<ROWSxCOLUMNSxf16>) outs(%nothing : tensor<ROWSxf32>) {
  ^bb0(%a: f16, %o: f32):
    %wide = arith.extf %a : f16 to f32
    %top = arith.maximumf %wide, %o : f32
    linalg.yield %top : f32
  } -> tensor<ROWSxf32>
  %wide_empty = tensor.empty() : tensor<ROWSxCOLUMNSxf32>
  %powers = linalg.generic {indexing_maps = [#same, #row, #same], iterator_types = ["parallel", "parallel"]}
      ins(%x, %tops : tensor<ROWSxCOLUMNSxf16>, tensor<ROWSxf32>) outs(%wide_empty : tensor<ROWSxCOLUMNSxf32>) {
  ^bb0(%a: f16, %top: f32, %o: f32):
    %wide = arith.extf %a : f16 to f32
    %below = arith.subf %wide, %top : f32
    %power = math.exp %below : f32
    linalg.yield %power : f32
  } -> tensor<ROWSxCOLUMNSxf32>
  %totals = linalg.generic {indexing_maps = [#same, #row], iterator_types = ["parallel", "reduction"]}
      ins(%powers : tensor<ROWSxCOLUMNSxf32>) outs(%none : tensor<ROWSxf32>) {
  ^bb0(%a: f32, %o: f32):
    %sum = arith.addf %a, %o : f32
    linalg.yield %sum : f32
  } -> tensor<ROWSxf32>
  %empty = tensor.empty() : tensor<ROWSxCOLUMNSxf16>
  %shares = linalg.generic {indexing_maps = [#same, #row, #same], iterator_types = ["parallel", "parallel"]}
      ins(%powers, %totals : tensor<ROWSxCOLUMNSxf32>, tensor<ROWSxf32>) outs(%empty : tensor<ROWSxCOLUMNSxf16>) {
  ^bb0(%a: f32, %total: f32, %o: f16):
    %share = arith.divf %a, %total : f32
    %rounded = arith.truncf %share : f32 to f16
    linalg.yield %rounded : f16
  } -> tensor<ROWSxCOLUMNSxf16>
  return %shares : tensor<ROWSxCOLUMNSxf16>
}

// ----- rope

#same = affine_map<(d0, d1) -> (d0, d1)>
func.func @main(%x: tensor<ROWSxCOLUMNSxf16>, %cosine: tensor<ROWSxCOLUMNSxf16>, %sine: tensor<ROWSxCOLUMNSxf16>)
    -> tensor<ROWSxCOLUMNSxf16> {
  %low = tensor.extract_slice %x[0, 0] [ROWS, HALF] [1, 1] : tensor<ROWSxCOLUMNSxf16> to tensor<ROWSxHALFxf16>
  %high = tensor.extract_slice %x[0, HALF] [ROWS, HALF] [1, 1] : tensor<ROWSxCOLUMNSxf16> to tensor<ROWSxHALFxf16>
  %half = tensor.empty() : tensor<ROWSxHALFxf16>
  %negated = linalg.generic {indexing_maps = [#same, #same], iterator_types = ["parallel", "parallel"]}
      ins(%high : tensor<ROWSxHALFxf16>) outs(%half : tensor<ROWSxHALFxf16>) {
  ^bb0(%a: f16, %o: f16):
    %minus = arith.negf %a : f16
    linalg.yield %minus : f16
  } -> tensor<ROWSxHALFxf16>
  %turned = tensor.concat dim(1) %negated, %low
      : (tensor<ROWSxHALFxf16>, tensor<ROWSxHALFxf16>) -> tensor<ROWSxCOLUMNSxf16>
  %empty = tensor.empty() : tensor<ROWSxCOLUMNSxf16>
  %rotated = linalg.generic {indexing_maps = [#same, #same, #same, #same, #same], iterator_types = ["parallel", "parallel"]}
      ins(%x, %turned, %cosine, %sine
          : tensor<ROWSxCOLUMNSxf16>, tensor<ROWSxCOLUMNSxf16>, tensor<ROWSxCOLUMNSxf16>, tensor<ROWSxCOLUMNSxf16>)
      outs(%empty : tensor<ROWSxCOLUMNSxf16>) {
  ^bb0(%a: f16, %t: f16, %c: f16, %s: f16, %o: f16):
    %wide_a = arith.extf %a : f16 to f32
    %wide_t = arith.extf %t : f16 to f32
    %wide_c = arith.extf %c : f16 to f32
    %wide_s = arith.extf %s : f16 to f32
    %along = arith.mulf %wide_a, %wide_c : f32
    %across = arith.mulf %wide_t, %wide_s : f32
    %sum = arith.addf %along, %across : f32
    %rounded = arith.truncf %sum : f32 to f16
    linalg.yield %rounded : f16
  } -> tensor<ROWSxCOLUMNSxf16>
  return %rotated : tensor<ROWSxCOLUMNSxf16>
}
