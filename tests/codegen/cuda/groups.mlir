// Programs that become one fused kernel each; `softmax` is read with other sizes too.

// ----- softmax

#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d0)>
module {
  func.func @main(%arg0: tensor<?x?xf32>) -> tensor<?x?xf32> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x?xf32>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x?xf32>
    %cst = arith.constant 0xFF800000 : f32
    %cst_1 = arith.constant 0.000000e+00 : f32
    %0 = tensor.empty(%dim, %dim_0) : tensor<?x?xf32>
    %1 = tensor.empty(%dim) : tensor<?xf32>
    %2 = linalg.fill ins(%cst : f32) outs(%1 : tensor<?xf32>) -> tensor<?xf32>
    %3 = linalg.fill ins(%cst_1 : f32) outs(%1 : tensor<?xf32>) -> tensor<?xf32>
    %4 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "reduction"]} ins(%arg0 : tensor<?x?xf32>) outs(%2 : tensor<?xf32>) {
    ^bb0(%in: f32, %out: f32):
      %8 = arith.maximumf %in, %out : f32
      linalg.yield %8 : f32
    } -> tensor<?xf32>
    %5 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %4 : tensor<?x?xf32>, tensor<?xf32>) outs(%0 : tensor<?x?xf32>) {
    ^bb0(%in: f32, %in_2: f32, %out: f32):
      %8 = arith.subf %in, %in_2 : f32
      %9 = math.exp %8 : f32
      linalg.yield %9 : f32
    } -> tensor<?x?xf32>
    %6 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "reduction"]} ins(%5 : tensor<?x?xf32>) outs(%3 : tensor<?xf32>) {
    ^bb0(%in: f32, %out: f32):
      %8 = arith.addf %in, %out : f32
      linalg.yield %8 : f32
    } -> tensor<?xf32>
    %7 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%5, %6 : tensor<?x?xf32>, tensor<?xf32>) outs(%0 : tensor<?x?xf32>) {
    ^bb0(%in: f32, %in_2: f32, %out: f32):
      %8 = arith.divf %in, %in_2 : f32
      linalg.yield %8 : f32
    } -> tensor<?x?xf32>
    return %7 : tensor<?x?xf32>
  }
}


// ----- rope

#map = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
#map1 = affine_map<(d0, d1, d2) -> (d1, d2)>
module {
  func.func @main(%arg0: tensor<?x6x16xf32>, %arg1: tensor<6x16xf32>) -> tensor<?x6x16xf32> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x6x16xf32>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x6x16xf32>
    %c2 = arith.constant 2 : index
    %dim_1 = tensor.dim %arg0, %c2 : tensor<?x6x16xf32>
    %extracted_slice = tensor.extract_slice %arg0[0, 0, 8] [%dim, 6, 8] [1, 1, 1] : tensor<?x6x16xf32> to tensor<?x6x8xf32>
    %extracted_slice_2 = tensor.extract_slice %arg0[0, 0, 0] [%dim, 6, 8] [1, 1, 1] : tensor<?x6x16xf32> to tensor<?x6x8xf32>
    %concat = tensor.concat dim(2) %extracted_slice, %extracted_slice_2 : (tensor<?x6x8xf32>, tensor<?x6x8xf32>) -> tensor<?x6x16xf32>
    %0 = tensor.empty(%dim) : tensor<?x6x16xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel", "parallel"]} ins(%concat, %arg1 : tensor<?x6x16xf32>, tensor<6x16xf32>) outs(%0 : tensor<?x6x16xf32>) {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %2 = arith.mulf %in, %in_3 : f32
      linalg.yield %2 : f32
    } -> tensor<?x6x16xf32>
    return %1 : tensor<?x6x16xf32>
  }
}


// ----- transpose

module {
  func.func @main(%arg0: tensor<?x?xf32>) -> tensor<?x?xf32> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x?xf32>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x?xf32>
    %0 = tensor.empty(%dim_0, %dim) : tensor<?x?xf32>
    %transposed = linalg.transpose ins(%arg0 : tensor<?x?xf32>) outs(%0 : tensor<?x?xf32>) permutation = [1, 0] 
    return %transposed : tensor<?x?xf32>
  }
}


// ----- pad

module {
  func.func @main(%arg0: tensor<?x?xf32>) -> tensor<?x?xf32> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x?xf32>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x?xf32>
    %cst = arith.constant 7.000000e+00 : f32
    %c1_1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    %0 = arith.addi %dim_0, %c3 : index
    %1 = arith.addi %0, %c1_1 : index
    %padded = tensor.pad %arg0 low[0, 1] high[0, 3] {
    ^bb0(%arg1: index, %arg2: index):
      tensor.yield %cst : f32
    } : tensor<?x?xf32> to tensor<?x?xf32>
    return %padded : tensor<?x?xf32>
  }
}


// ----- strided insertion

module {
  func.func @main(%arg0: tensor<4x5xf32>) -> tensor<3x12xf32> {
    %cst = arith.constant dense<2.000000e+00> : tensor<3x12xf32>
    %extracted_slice = tensor.extract_slice %arg0[0, 0] [2, 5] [1, 1] : tensor<4x5xf32> to tensor<2x5xf32>
    %inserted_slice = tensor.insert_slice %extracted_slice into %cst[1, 1] [2, 5] [1, 2] : tensor<2x5xf32> into tensor<3x12xf32>
    return %inserted_slice : tensor<3x12xf32>
  }
}


// ----- causal mask

#map = affine_map<(d0, d1) -> (d0, d1)>
module {
  func.func @main(%arg0: tensor<?x?xf32>) -> tensor<?x?xf32> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x?xf32>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x?xf32>
    %0 = tensor.empty(%dim, %dim_0) : tensor<?x?xf32>
    %cst = arith.constant 0xFF800000 : f32
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0 : tensor<?x?xf32>) outs(%0 : tensor<?x?xf32>) {
    ^bb0(%in: f32, %out: f32):
      %2 = linalg.index 0 : index
      %3 = linalg.index 1 : index
      %4 = arith.cmpi sle, %3, %2 : index
      %5 = arith.select %4, %in, %cst : f32
      linalg.yield %5 : f32
    } -> tensor<?x?xf32>
    return %1 : tensor<?x?xf32>
  }
}


// ----- gather

#map = affine_map<(d0, d1, d2) -> (d0, d1)>
#map1 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
module {
  func.func @main(%arg0: tensor<3x20xf16>, %arg1: tensor<?x?xi64>) -> tensor<?x?x20xf32> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg1, %c0 : tensor<?x?xi64>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg1, %c1 : tensor<?x?xi64>
    %0 = tensor.empty(%dim, %dim_0) : tensor<?x?x20xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "parallel"]} ins(%arg1 : tensor<?x?xi64>) outs(%0 : tensor<?x?x20xf32>) {
    ^bb0(%in: i64, %out: f32):
      %2 = arith.index_cast %in : i64 to index
      %3 = linalg.index 2 : index
      %extracted = tensor.extract %arg0[%2, %3] : tensor<3x20xf16>
      %4 = arith.extf %extracted : f16 to f32
      linalg.yield %4 : f32
    } -> tensor<?x?x20xf32>
    return %1 : tensor<?x?x20xf32>
  }
}


// ----- argmax

#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d0)>
module {
  func.func @main(%arg0: tensor<?x?xf32>) -> (tensor<?xf32>, tensor<?xi64>) {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x?xf32>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x?xf32>
    %cst = arith.constant 0xFF800000 : f32
    %c0_i64 = arith.constant 0 : i64
    %0 = tensor.empty(%dim) : tensor<?xf32>
    %1 = tensor.empty(%dim) : tensor<?xi64>
    %2 = linalg.fill ins(%cst : f32) outs(%0 : tensor<?xf32>) -> tensor<?xf32>
    %3 = linalg.fill ins(%c0_i64 : i64) outs(%1 : tensor<?xi64>) -> tensor<?xi64>
    %4:2 = linalg.generic {indexing_maps = [#map, #map1, #map1], iterator_types = ["parallel", "reduction"]} ins(%arg0 : tensor<?x?xf32>) outs(%2, %3 : tensor<?xf32>, tensor<?xi64>) {
    ^bb0(%in: f32, %out: f32, %out_1: i64):
      %5 = linalg.index 1 : index
      %6 = arith.index_cast %5 : index to i64
      %7 = arith.maximumf %in, %out : f32
      %8 = arith.cmpf ogt, %in, %out : f32
      %9 = arith.select %8, %6, %out_1 : i64
      linalg.yield %7, %9 : f32, i64
    } -> (tensor<?xf32>, tensor<?xi64>)
    return %4#0, %4#1 : tensor<?xf32>, tensor<?xi64>
  }
}


// ----- sum of leading axis

#map = affine_map<(d0, d1) -> (d1, d0)>
#map1 = affine_map<(d0, d1) -> (d0)>
module {
  func.func @main(%arg0: tensor<?x?xf32>) -> tensor<?xf32> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x?xf32>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x?xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %0 = tensor.empty(%dim_0) : tensor<?xf32>
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<?xf32>) -> tensor<?xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "reduction"]} ins(%arg0 : tensor<?x?xf32>) outs(%1 : tensor<?xf32>) {
    ^bb0(%in: f32, %out: f32):
      %3 = arith.addf %in, %out : f32
      linalg.yield %3 : f32
    } -> tensor<?xf32>
    return %2 : tensor<?xf32>
  }
}


// ----- whole numbers and truth

#map = affine_map<(d0, d1) -> (d0, d1)>
module {
  func.func @main(%arg0: tensor<9x13xi64>, %arg1: tensor<9x13xi1>) -> (tensor<9x13xi8>, tensor<9x13xi1>) {
    %0 = tensor.empty() : tensor<9x13xi8>
    %1 = tensor.empty() : tensor<9x13xi1>
    %2 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1 : tensor<9x13xi64>, tensor<9x13xi1>) outs(%0 : tensor<9x13xi8>) {
    ^bb0(%in: i64, %in_0: i1, %out: i8):
      %c100_i64 = arith.constant 100 : i64
      %4 = arith.muli %in, %c100_i64 : i64
      %5 = arith.trunci %4 : i64 to i8
      %6 = arith.extsi %in_0 : i1 to i8
      %7 = arith.addi %5, %6 : i8
      linalg.yield %7 : i8
    } -> tensor<9x13xi8>
    %3 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%2, %arg1 : tensor<9x13xi8>, tensor<9x13xi1>) outs(%1 : tensor<9x13xi1>) {
    ^bb0(%in: i8, %in_0: i1, %out: i1):
      %c0_i8 = arith.constant 0 : i8
      %4 = arith.cmpi ult, %in, %c0_i8 : i8
      %5 = arith.cmpi slt, %in, %c0_i8 : i8
      %6 = arith.ori %4, %5 : i1
      %7 = arith.xori %6, %in_0 : i1
      linalg.yield %7 : i1
    } -> tensor<9x13xi1>
    return %2, %3 : tensor<9x13xi8>, tensor<9x13xi1>
  }
}


// ----- halves

#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d1)>
module {
  func.func @main(%arg0: tensor<?x24xf16>, %arg1: tensor<24xbf16>) -> tensor<?x24xf16> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x24xf16>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x24xf16>
    %0 = tensor.empty(%dim) : tensor<?x24xf16>
    %1 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1 : tensor<?x24xf16>, tensor<24xbf16>) outs(%0 : tensor<?x24xf16>) {
    ^bb0(%in: f16, %in_1: bf16, %out: f16):
      %2 = arith.mulf %in, %in : f16
      %3 = arith.extf %in_1 : bf16 to f32
      %4 = arith.truncf %3 : f32 to f16
      %5 = arith.addf %2, %4 : f16
      linalg.yield %5 : f16
    } -> tensor<?x24xf16>
    return %1 : tensor<?x24xf16>
  }
}


// ----- all of a tensor

#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> ()>
module {
  func.func @main(%arg0: tensor<?x?xf32>) -> tensor<f32> {
    %c0 = arith.constant 0 : index
    %dim = tensor.dim %arg0, %c0 : tensor<?x?xf32>
    %c1 = arith.constant 1 : index
    %dim_0 = tensor.dim %arg0, %c1 : tensor<?x?xf32>
    %cst = arith.constant 5.000000e-01 : f32
    %0 = tensor.empty() : tensor<f32>
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<f32>) -> tensor<f32>
    %2 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["reduction", "reduction"]} ins(%arg0 : tensor<?x?xf32>) outs(%1 : tensor<f32>) {
    ^bb0(%in: f32, %out: f32):
      %3 = arith.addf %in, %out : f32
      linalg.yield %3 : f32
    } -> tensor<f32>
    return %2 : tensor<f32>
  }
}


// ----- integers by literals
#map = affine_map<(d0) -> (d0)>
module {
  func.func @main(%arg0: tensor<?xi64>) -> tensor<?xi64> {
    %c0 = arith.constant 0 : index
    %two = arith.constant 2 : i64
    %seven = arith.constant -7 : i64
    %dim = tensor.dim %arg0, %c0 : tensor<?xi64>
    %0 = tensor.empty(%dim) : tensor<?xi64>
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]} ins(%arg0 : tensor<?xi64>) outs(%0 : tensor<?xi64>) {
    ^bb0(%in: i64, %out: i64):
      %2 = arith.muli %in, %seven : i64
      %3 = arith.divsi %2, %two : i64
      %4 = arith.remsi %2, %two : i64
      %5 = arith.floordivsi %2, %two : i64
      %6 = arith.ceildivsi %seven, %in : i64
      %7 = math.ipowi %2, %two : i64
      %8 = arith.addi %3, %4 : i64
      %9 = arith.addi %5, %6 : i64
      %10 = arith.addi %8, %9 : i64
      %11 = arith.addi %10, %7 : i64
      linalg.yield %11 : i64
    } -> tensor<?xi64>
    return %1 : tensor<?xi64>
  }
}
