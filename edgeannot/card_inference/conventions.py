"""How the published families prepare their pictures. Used only where neither the file nor the user says, and named in the evidence."""

from __future__ import annotations

from edgeannot.card_inference.interpretation import Convention

__all__ = [
    "CLASSIFIER",
    "DARKNET",
    "FASTESTV2",
    "MEDIAPIPE",
    "NANODET",
    "PALM",
    "PICODET",
    "RT_DETR",
    "SSD",
    "TORCH_CLASSIFIER",
    "ULTRALYTICS",
    "YOLOX",
]

ULTRALYTICS = Convention("YOLOv5 to v11 and their kin", "letterbox", "RGB", "0..1")
DARKNET = Convention("Darknet", "stretch", "RGB", "0..1")
YOLOX = Convention("YOLOX", "letterbox-top-left", "BGR", "0..255")
NANODET = Convention("NanoDet", "stretch", "BGR", "nanodet")
PICODET = Convention("PicoDet", "stretch", "RGB", "imagenet")
RT_DETR = Convention("RT-DETR and its kin", "stretch", "RGB", "0..1")
SSD = Convention("TensorFlow's SSD and EfficientDet", "stretch", "RGB", "-1..1")
FASTESTV2 = Convention("YOLO-FastestV2", "stretch", "BGR", "0..1")
MEDIAPIPE = Convention("MediaPipe's BlazeFace kin", "letterbox", "RGB", "-1..1")
PALM = Convention("MediaPipe's palm detection", "letterbox", "RGB", "0..1")
CLASSIFIER = Convention("TensorFlow's MobileNet and EfficientNet-Lite", "stretch", "RGB", "-1..1")
TORCH_CLASSIFIER = Convention("torchvision", "stretch", "RGB", "imagenet")
