"""Metrics of several processes are added up, and told as Prometheus reads them.

https://prometheus.io/docs/concepts/metric_types/#histogram: buckets are cumulative, `+Inf` equals the count.
"""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from fhir_server.observability.metrics import Gauge, RequestMetrics, SharedSnapshots, exposition


def samples(metrics: RequestMetrics, gauges=()) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(metrics, gauges).decode()
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_the_buckets_of_commits_are_cumulative() -> None:
    metrics = RequestMetrics()
    for size in (1, 1, 3, 64, 65):
        metrics.committed(size, 0.004)
    found = samples(metrics)
    bounds = {bound: found["fhir_store_commit_size_bucket", (("le", bound),)] for bound in ("1.0", "2.0", "4.0", "64.0", "+Inf")}
    assert bounds == {"1.0": 2, "2.0": 2, "4.0": 3, "64.0": 4, "+Inf": 5}
    assert found["fhir_store_commit_size_count", ()] == 5 and found["fhir_store_commit_size_sum", ()] == 134
    assert found["fhir_store_commit_duration_seconds_bucket", (("le", "0.005"),)] == 5


def test_only_searches_are_measured_by_type() -> None:
    metrics = RequestMetrics()
    metrics.observe("search", "Patient", 200, 0.2)
    metrics.observe("read", "Patient", 200, 0.2)
    assert samples(metrics)["fhir_search_duration_seconds_count", (("type", "Patient"),)] == 1


def test_counters_and_histograms_of_two_processes_are_added_up(tmp_path) -> None:
    workers = [RequestMetrics(), RequestMetrics()]
    for number, metrics in enumerate(workers):
        metrics.count("fhir_slow_searches", ("Patient",), number + 1)
        metrics.committed(2, 0.01)
        metrics.watch(lambda number=number: [("fhir_job_attempts", ("send", "done"), 10), ("fhir_subscription_circuits_open", (), number)])
    shared = [SharedSnapshots(tmp_path, number) for number in range(2)]
    shared[1].publish(workers[1])
    found = samples(shared[0].total(workers[0]))
    assert found["fhir_slow_searches_total", (("type", "Patient"),)] == 3
    assert found["fhir_job_attempts_total", (("kind", "send"), ("result", "done"))] == 20
    assert found["fhir_subscription_circuits_open", ()] == 1
    assert found["fhir_store_commit_size_sum", ()] == 4


def test_what_has_not_happened_yet_is_declared_and_a_gauge_without_labels_is_zero() -> None:
    text = exposition(RequestMetrics()).decode()
    assert "# TYPE fhir_slow_searches_total counter" in text and "# TYPE fhir_job_attempts_total counter" in text
    assert samples(RequestMetrics())["fhir_subscription_circuits_open", ()] == 0


def test_gauges_of_one_name_are_one_family_with_labels() -> None:
    rows = [Gauge("fhir_feed_lag", "h", 3, {"reader": "a"}), Gauge("up_to", "h", 1), Gauge("fhir_feed_lag", "h", 5, {"reader": "b"})]
    found = samples(RequestMetrics(), rows)
    assert found["fhir_feed_lag", (("reader", "a"),)] == 3 and found["fhir_feed_lag", (("reader", "b"),)] == 5
    assert exposition(RequestMetrics(), rows).decode().count("# TYPE fhir_feed_lag gauge") == 1
