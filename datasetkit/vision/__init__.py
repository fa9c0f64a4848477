"""Small packaged ONNX models that look at images."""
