"""What a step of a program will take, predicted from one tile of each kind (docs/cost.md)."""

from .predict import Prediction, Predictor, predict

__all__ = ["Prediction", "Predictor", "predict"]
