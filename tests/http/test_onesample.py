"""The walk-through of the original's documentation, whose samples are vectors; its lines of code as printed there."""

import itertools

from tests.parts import Api, names_and_types

counter = itertools.count()
SETOSA, VERSICOLOR = [5.1, 3.5, 1.4, 0.2], [7, 3.2, 4.7, 1.4]
NAMES = "names={0:'I. setosa',1:'I. versicolor',2:'I. virginica'}"


async def test_the_iris_walk_through_predicts_in_its_session_and_in_both_services(admin: Api, session: str) -> None:
    await admin.execute(session, "from sklearn import svm\nfrom sklearn import datasets")
    await admin.execute(session, f"clf=svm.SVC()\niris=datasets.load_iris()\n{NAMES}")
    trained = await admin.execute(
        session,
        "clf.fit(iris.data, iris.target)\nresult=clf.predict(species_1)\nother_result=clf.predict(species_2)",
        "result",
        "other_result",
        species_1=VERSICOLOR,
        species_2=[3, 2.6, 3, 2.5],
    )
    assert trained["success"], trained["errorMessage"]
    assert [each["name"] for each in trained["outputParameters"]] == ["result", "other_result"]
    assert trained["outputParameters"][0]["value"] == [1]
    assert len(trained["outputParameters"][1]["value"]) == 1  # which one depends on the version of scikit-learn
    assert "DeprecationWarning: Passing 1d arrays as data is deprecated" in trained["consoleOutput"]

    name = f"Iris{next(counter)}"
    snapshot = await admin("POST", f"{session}/snapshot", 201, {"name": "Iris Snapshot"})
    inputs = {"inputParameterDefinitions": names_and_types(flower_data="vector")} | snapshot
    for version, code, kind, expected in (
        ("V1.0", "iris_species = [names[x] for x in clf.predict(flower_data)]", "vector", ["I. setosa"]),
        ("V2.0", "iris_species = [names[x] for x in clf.predict(flower_data)][0]", "string", "I. setosa"),
    ):
        outputs = {"outputParameterDefinitions": names_and_types(iris_species=kind)}
        address = await admin.publish(name, version, code, **inputs, **outputs)
        answer = await admin("POST", address, json={"flower_data": SETOSA})
        assert answer["success"], answer["errorMessage"]
        assert answer["outputParameters"] == {"iris_species": expected}
        assert "Passing 1d arrays" in answer["consoleOutput"]
