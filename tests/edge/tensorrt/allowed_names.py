"""Every name of TensorRT and of pycuda that the device's code may use: the fakes have these and no others.

Each is held against the real bindings; see docs/tensorrt.md.
"""

from __future__ import annotations

__all__ = ["PYCUDA_DRIVER", "TENSORRT"]


def _names(text: str) -> frozenset[str]:
    """`Owner: member member` a line; a line with nothing after the colon names the owner alone."""
    found: set[str] = set()
    for line in filter(None, map(str.strip, text.splitlines())):
        owner, _, members = line.partition(":")
        found |= {owner, *(f"{owner}.{member}" for member in members.split())}
    return frozenset(found)


PYCUDA_DRIVER = _names("""
    init:
    get_driver_version:
    mem_alloc:
    pagelocked_empty:
    memcpy_htod_async:
    memcpy_dtoh_async:
    Device: count name compute_capability retain_primary_context
    Context: push pop synchronize
    Stream: handle synchronize wait_for_event
    Event: record
    event_flags: DISABLE_TIMING
    DeviceAllocation: free
    PagelockedHostAllocation: free
    Error:
    MemoryError:
    LogicError:
""")

TENSORRT = _names("""
    __version__:
    ILogger: log
    ILogger.Severity: INTERNAL_ERROR ERROR WARNING INFO VERBOSE
    IProgressMonitor: phase_start step_complete phase_finish
    Runtime: deserialize_cuda_engine DLA_core
    ICudaEngine: num_io_tensors get_tensor_name get_tensor_mode get_tensor_dtype get_tensor_shape
    ICudaEngine: get_tensor_format get_tensor_location device_memory_size_v2 create_execution_context
    IExecutionContext: set_tensor_address set_device_memory execute_async_v3
    DataType: FLOAT HALF UINT8 INT8 INT32 INT64 BOOL
    TensorIOMode: INPUT OUTPUT
    TensorFormat: LINEAR
    TensorLocation: DEVICE HOST
    ExecutionContextAllocationStrategy: STATIC USER_MANAGED
    Builder: create_network create_builder_config build_serialized_network num_DLA_cores
    NetworkDefinitionCreationFlag: STRONGLY_TYPED
    OnnxParser: parse num_errors get_error
    ParserError: node node_name node_operator desc
    INetworkDefinition: num_inputs get_input num_outputs get_output num_layers get_layer
    ITensor: name shape
    ILayer:
    IBuilderConfig: set_memory_pool_limit builder_optimization_level progress_monitor set_flag clear_flag
    IBuilderConfig: default_device_type DLA_core can_run_on_DLA
    IBuilderConfig: create_timing_cache set_timing_cache get_timing_cache
    ITimingCache: serialize
    MemoryPoolType: WORKSPACE
    DeviceType: DLA
    BuilderFlag: GPU_FALLBACK TF32
    IHostMemory:
""")
