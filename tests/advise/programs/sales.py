"""Evaluates a year of sales: by region, by month, and the customers that buy most."""

import sys

import numpy as np
import pandas as pd


def load(rows: int) -> pd.DataFrame:
    choose = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "day": pd.Timestamp("2025-01-01") + pd.to_timedelta(choose.integers(0, 365, rows), "D"),
            "customer": choose.integers(0, 20_000, rows),
            "region": choose.integers(0, 12, rows),
            "units": choose.integers(1, 20, rows),
            "price": choose.random(rows) * 100,
        }
    )


def report(sales: pd.DataFrame) -> None:
    sales = sales.assign(revenue=sales["units"] * sales["price"])
    sales = sales[sales["revenue"] > 50.0]
    print(sales.groupby("region")["revenue"].agg(["sum", "mean"]).round(2))
    print(sales.groupby(sales["day"].dt.month)["revenue"].sum().round(2))
    best = sales.groupby("customer")["revenue"].sum().nlargest(10)
    print(sales.merge(best.rename("total"), left_on="customer", right_index=True).shape)
    print(sales.sort_values(["region", "revenue"]).groupby("region").head(2))


if __name__ == "__main__":
    table = load(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        report(table)
