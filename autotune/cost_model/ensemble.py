from __future__ import annotations
from dataclasses import dataclass
import numpy as np
from .base import Prediction
@dataclass
class Ensemble:
    members: list
    def update(self, features, log_times):
        for m in self.members: m.update(features, log_times)
    def imagine(self, features, log_times):
        for m in self.members: m.imagine(features, log_times)
    def opinions(self, features):
        return [m.predict(features) for m in self.members]
    def predict(self, features):
        o=self.opinions(features)
        mean=np.mean([p.mean for p in o],axis=0)
        return Prediction(mean, np.sqrt(np.mean([p.deviation**2+(p.mean-mean)**2 for p in o],axis=0)))
    def also(self, targets):
        fs=[m.also(targets) for m in self.members if hasattr(m,'also')]
        return lambda some: np.mean([f(some) for f in fs],axis=0)
