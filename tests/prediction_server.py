"""TensorFlow Serving's wire format over a SavedModel, on gRPC's own server.

It loads the SavedModel as `tensorflow_model_server` does, into a session with
the ops of TensorFlow and of tensorflow_text, and answers PredictRequests. The
shapes of the inputs are taken off, for the server in C++ does not check them
either.
"""

import concurrent.futures
import contextlib
import pathlib

import grpc
import tensorflow as tf
import tensorflow_text  # noqa: F401
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from tfadv.export import saved_model


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Serves the newest version of a folder of SavedModels."""

    def __init__(self, base_path):
        versions = [
            path for path in base_path.iterdir() if path.name.isdecimal()
        ]
        folder = max(versions, key=lambda path: int(path.name))
        content = saved_model_pb2.SavedModel()
        content.ParseFromString((folder / "saved_model.pb").read_bytes())
        [meta_graph] = content.meta_graphs
        for node in meta_graph.graph_def.node:
            if node.op == "Placeholder":
                node.attr["shape"].shape.Clear()
                node.attr["shape"].shape.unknown_rank = True
                node.attr.pop("_output_shapes", None)
        self.signatures = meta_graph.signature_def
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            saver = tf.compat.v1.train.import_meta_graph(meta_graph)
            saver.restore(self.session, str(folder / "variables/variables"))
            inits = self.signatures["__saved_model_init_op"].outputs
            self.session.run([info.name for info in inits.values()])
        self.warm_up(folder)

    def warm_up(self, folder):
        path = folder / saved_model.WARM_UP
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            self.answer(log.predict_log.request)

    def Predict(self, request, context):  # noqa: N802
        try:
            return self.answer(request)
        except (ValueError, tf.errors.OpError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def answer(self, request):
        name = request.model_spec.signature_name or "serving_default"
        signature = self.signatures[name]
        if set(request.inputs) != set(signature.inputs):
            raise ValueError(
                f"input keys: expected {sorted(signature.inputs)}, found "
                f"{sorted(request.inputs)}"
            )
        feed = {}
        for key, info in signature.inputs.items():
            if request.inputs[key].dtype != info.dtype:
                expected = tf.as_dtype(info.dtype).name
                raise ValueError(f"{key} must be of type {expected}")
            feed[info.name] = tf.make_ndarray(request.inputs[key])
        names = {k: info.name for k, info in signature.outputs.items()}
        response = predict_pb2.PredictResponse()
        response.model_spec.signature_name = name
        for key, value in self.session.run(names, feed).items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response


@contextlib.contextmanager
def serve(base_path):
    """Runs a server on loopback and yields a client's stub."""
    pool = concurrent.futures.ThreadPoolExecutor(2)
    server = grpc.server(pool)
    service = PredictionService(pathlib.Path(base_path))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        service, server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield prediction_service_pb2_grpc.PredictionServiceStub(channel)
    finally:
        server.stop(None)
        service.session.close()
