"""A table through pandas in a session, published with a CSV file that comes along with each answer."""

import argparse

import numpy as np
import pandas as pd

from mlhost.client import connect

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--url", help="the server (default: the one of this user on this machine)")

days = pd.date_range("2026-01-01", periods=90).strftime("%Y-%m-%d")
numbers = np.random.default_rng(0)
sales = pd.DataFrame({"day": days, "shop": numbers.choice(["north", "south"], 90), "euros": numbers.gamma(5, 40, 90)})

PREPARE = """
import pandas as pd
usual = sales.groupby("shop").euros.median()
print(usual.round(1).to_string())
"""
REPORT = """
frame = rows.assign(month=rows.day.str[:7], unusual=rows.euros > 2 * rows.shop.map(usual))
months = frame.pivot_table(index="month", columns="shop", values="euros", aggfunc="sum").round(1)
months.to_csv("months.csv")
unusual = int(frame.unusual.sum())
"""

with connect(arguments.parse_args().url) as ml:
    with ml.session("example") as session:
        session["sales"] = sales
        print(session.run(PREPARE), end="")
        service = session.publish(
            "example-report",
            "1.0",
            REPORT,
            inputs={"rows": pd.DataFrame},
            outputs={"unusual": int},
            files=["months.csv"],
            replace=True,
        )
    reply = service.ask(sales)
    print("unusual days:", reply.outputs["unusual"])
    print(reply.files["months.csv"].decode(), end="")
    service.delete()
