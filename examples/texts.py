"""A text classifier: is a message about the weather or about food?"""

import argparse
from typing import TypedDict

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from mlhost.client import connect

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--url", help="the server (default: the one of this user on this machine)")

WEATHER = ["rain all day and a cold wind", "sunny with some clouds", "snow in the night", "a warm and windy evening"]
FOOD = ["fresh bread with butter", "a bowl of hot soup", "cheese and apples for lunch", "the cake needs more sugar"]
model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
model.fit(WEATHER + FOOD, ["weather"] * len(WEATHER) + ["food"] * len(FOOD))


class Topic(TypedDict):
    topic: str
    probability: float


def topic(text: str) -> Topic:
    """What a message is about, and how sure that is."""
    [shares] = model.predict_proba([text])
    return {"topic": model.classes_[shares.argmax()], "probability": shares.max()}


with connect(arguments.parse_args().url) as ml:
    service = ml.publish(topic, "example-topic", "1.0", replace=True)
    for text in ("cold rain and wind", "soup with bread"):
        told = service(text)
        print(f"{text}: {told['topic']} ({told['probability']:.0%})")
    both = service.batch([{"text": "snow and clouds"}, {"text": "sugar and butter"}], progress=False)
    print([each["topic"] for each in both])
    service.delete()
