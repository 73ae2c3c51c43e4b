"""`tf.train.Example` without TensorFlow, whose import costs each process 5 seconds and 700 MB."""

import functools

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

# The definitions of tensorflow/core/example/{example,feature}.proto, without the kinds of features
# that records do not use.
_DEFINITION = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type {
  name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES }
}
message_type {
  name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".tensorflow.BytesList" }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED
          type: TYPE_MESSAGE type_name: ".tensorflow.Features.FeatureEntry" }
  nested_type {
    name: "FeatureEntry"
    options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL
            type: TYPE_MESSAGE type_name: ".tensorflow.Feature" }
  }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".tensorflow.Features" }
}
"""


def new() -> message.Message:
    """Returns an empty `tf.train.Example` that supports `bytes_list` features."""
    return _type()()


@functools.cache
def _type() -> type[message.Message]:
    file = text_format.Parse(_DEFINITION, descriptor_pb2.FileDescriptorProto())
    # A separate pool, as the default one may hold TensorFlow's definition.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
