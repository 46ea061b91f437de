"""Operations that a TensorFlow graph may use without anybody's consent: pure arithmetic on tensors, and control flow.

Not among them is whatever touches files, the network, other processes, Python, devices' queues or the screen; an
operation that is not listed here is refused. Names are those of TensorFlow's registry.
"""

from __future__ import annotations

_ARITHMETIC = """
Abs Acos Acosh Add AddN AddV2 All Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan Atan2 Atanh BatchMatMul
BatchMatMulV2 BatchMatMulV3 BesselI0e BesselI1e Bincount BitwiseAnd BitwiseOr BitwiseXor Bucketize Cast Ceil
ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum CumulativeLogsumexp DenseBincount Digamma Div
DivNoNan Einsum Equal Erf Erfc Erfinv EuclideanNorm Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual
HistogramFixedWidth Imag InTopK InTopKV2 Inv Invert IsFinite IsInf IsNan L2Loss LeftShift Less LessEqual Lgamma
LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max Maximum Mean Min Minimum Mod Mul MulNoNan
Neg NotEqual NthElement Pow Prod Range Real RealDiv Reciprocal RightShift Rint Round Rsqrt SegmentMax SegmentMean
SegmentMin SegmentProd SegmentSum Select SelectV2 Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Square
SquaredDifference Sub Sum Tan Tanh TopK TopKV2 TruncateDiv TruncateMod UnsortedSegmentMax UnsortedSegmentMin
UnsortedSegmentProd UnsortedSegmentSum Xdivy Xlog1py Xlogy
"""
_SHAPES = """
BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastTo BroadcastGradientArgs CheckNumerics CheckNumericsV2
Concat ConcatOffset ConcatV2 Const ControlTrigger DepthToSpace Diag DiagPart DynamicPartition DynamicStitch Empty
EnsureShape ExpandDims ExtractImagePatches Fill Gather GatherNd GatherV2 GuaranteeConst Identity IdentityN
InvertPermutation ListDiff MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2
MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad NoOp OneHot OnesLike Pack Pad PadV2
ParallelConcat ParallelDynamicStitch Placeholder PlaceholderV2 PlaceholderWithDefault PreventGradient Rank Reshape
Reverse ReverseSequence ReverseV2 Roll ScatterNd Shape ShapeN Size Slice Snapshot SpaceToBatch SpaceToBatchND
SpaceToDepth SparseToDense Split SplitV Squeeze StopGradient StridedSlice TensorScatterAdd TensorScatterMax
TensorScatterMin TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate Tile Transpose Unique UniqueV2
UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex Where ZerosLike
"""
_NETWORKS = """
AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 Conv Conv2D Conv2DBackpropInput
Conv2DBackpropInputV2 Conv3D Conv3DBackpropInputV2 DepthwiseConv2dNative Dilation2D Elu FakeQuantWithMinMaxArgs
FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel FractionalAvgPool FractionalMaxPool FusedBatchNorm
FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D LRN LeakyRelu MaxPool MaxPool3D MaxPoolV2
MaxPoolWithArgmax QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4
QuantizeV2 Dequantize Relu Relu6 Selu
"""
_IMAGES = """
AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize ExtractGlimpse
GenerateBoundingBoxProposals HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppression
NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NonMaxSuppressionWithOverlaps
RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate
"""
_CONTROL = """
Assert Case Enter Exit FakeParam If LoopCond Merge NextIteration PartitionedCall StatefulPartitionedCall
StatelessCase StatelessIf StatelessWhile Switch While ToBool
"""
_COLLECTIONS = """
EmptyTensorList TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3
TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TensorListConcat TensorListConcatV2
TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListPopBack
TensorListPushBack TensorListReserve TensorListResize TensorListScatter TensorListScatterIntoExistingList
TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack
"""
_VARIABLES = """
Assign AssignVariableOp DisableCopyOnRead IsVariableInitialized ReadVariableOp ResourceGather ResourceGatherNd
VarHandleOp VarIsInitializedOp Variable VariableShape VariableV2
"""
_RANDOM = """
RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt StatelessRandomGetAlg StatelessRandomGetKeyCounter
StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessTruncatedNormalV2
TruncatedNormal
"""
# Label texts of some detectors: tables filled from constants, never from files.
_TABLES = """
AsString HashTable HashTableV2 InitializeTable InitializeTableV2 LookupTableFind LookupTableFindV2
LookupTableImportV2 LookupTableSizeV2 StringJoin StringFormat
"""

ALLOWED = frozenset(
    " ".join((_ARITHMETIC, _SHAPES, _NETWORKS, _IMAGES, _CONTROL, _COLLECTIONS, _VARIABLES, _RANDOM, _TABLES)).split()
)
