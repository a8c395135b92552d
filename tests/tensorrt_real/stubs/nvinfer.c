/* All that TensorRT's Python module asks of libnvinfer, libnvinfer_plugin and libnvonnxparser while it is
   imported. Each factory gives nothing, as the real ones do where there is no usable CUDA. */
#define GIVES_NOTHING(name) void *name(void) { return 0; }
GIVES_NOTHING(createInferBuilder_INTERNAL)
GIVES_NOTHING(createInferRefitter_INTERNAL)
GIVES_NOTHING(createInferRuntime_INTERNAL)
GIVES_NOTHING(createNvOnnxParser_INTERNAL)
GIVES_NOTHING(createNvOnnxParserRefitter_INTERNAL)
GIVES_NOTHING(getBuilderPluginRegistry)
GIVES_NOTHING(getPluginRegistry)
int getNvOnnxParserVersion(void) { return 0; }
unsigned char initLibNvInferPlugins(void *logger, const char *name_space) { return 0; }
