"""The student as others take it: plain MMSegmentation, ONNX, a torch program.
"""
