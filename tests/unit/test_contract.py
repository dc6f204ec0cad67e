"""What a worker is told, and how it comes over."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from headgate.contract import (
    BatchSettings,
    BranchContract,
    BreakerContract,
    Complete,
    ContractError,
    Executor,
    HttpContract,
    JoinContract,
    OnTimeout,
    Ordering,
    RetryContract,
    RetryRule,
)

seconds = st.floats(0.001, 86400)
retries = st.builds(
    RetryContract,
    max_attempts=st.integers(1, 100),
    initial_seconds=seconds,
    factor=st.floats(1, 10),
    max_seconds=seconds,
    rules=st.lists(st.builds(RetryRule, match=st.text(), retryable=st.booleans()), max_size=3).map(tuple),
)
pushes = st.builds(
    HttpContract,
    url=st.text(),
    signing_keys_file=st.text(),
    allow_networks=st.lists(st.text(), max_size=3).map(tuple),
    breaker=st.builds(BreakerContract, failures=st.integers(0, 1000), open_seconds=seconds),
    await_listening=st.booleans(),
)
handlers = st.tuples(st.text(min_size=1), st.none()) | st.tuples(st.just(""), pushes)
branches = st.fixed_dictionaries(
    {},
    optional={
        "ordering": st.sampled_from(Ordering),
        "batch": st.builds(BatchSettings, max_events=st.integers(1, 1000), max_wait_seconds=seconds),
        "rate_limit": seconds,
        "filter": st.text(),
        "schema": st.booleans() | st.dictionaries(st.text(), st.text() | st.integers(0, 9), max_size=3),
    },
)
plain = st.builds(
    BranchContract,
    namespace=st.text(),
    pipeline=st.text(),
    branch=st.text(),
    function=st.just("m:f"),
    partitions=st.integers(1, 64),
    executor=st.sampled_from(Executor),
    concurrency=st.integers(1, 1000),
    timeout_seconds=seconds,
    retry=retries,
    join=st.none()
    | st.builds(
        JoinContract,
        branches=st.lists(st.text(), min_size=1, max_size=16).map(tuple),
        complete=st.sampled_from(Complete),
        quorum=st.integers(0, 16),
        timeout_seconds=st.integers(1, 86400),
        on_timeout=st.sampled_from(OnTimeout),
        output=st.none() | st.text(),
    ),
    claim_after_seconds=seconds,
    drain_seconds=seconds,
)


contracts = st.builds(
    lambda contract, handler, more: replace(contract, function=handler[0], http=handler[1], **more),
    plain,
    handlers,
    branches,
)


@given(contracts)
def test_a_contract_comes_over_as_it_was(contract: BranchContract) -> None:
    assert BranchContract.decode(contract.encode()) == contract


@pytest.mark.parametrize("handler", [{}, {"function": "m:f", "http": {"url": "https://a.example"}}])
def test_a_branch_has_one_kind_of_handler(handler: dict[str, object]) -> None:
    text = json.dumps({"namespace": "n", "pipeline": "p", "branch": "b"} | handler)
    with pytest.raises(ContractError, match="exactly one of `function` and `http`"):
        BranchContract.decode(text)


def test_its_names_are_those_of_the_api_and_the_least_of_it_is_enough() -> None:
    least = {"namespace": "n", "pipeline": "p", "branch": "b", "function": "m:f"}
    contract = BranchContract.decode(json.dumps(least | {"timeoutSeconds": 5, "retry": {"maxAttempts": 2}}))
    assert (contract.timeout_seconds, contract.retry.max_attempts) == (5, 2)
    assert contract.executor is Executor.THREADS
    assert contract.join is None


@pytest.mark.parametrize(
    ("text", "at_fault"),
    [
        ("", "HEADGATE_CONTRACT"),
        ("[]", "HEADGATE_CONTRACT"),
        ('{"namespace": "n"}', "pipeline"),
        ('{"namespace":"n","pipeline":"p","branch":"b","function":"f","concurrency":"many"}', "concurrency"),
        ('{"namespace":"n","pipeline":"p","branch":"b","function":"f","executor":"Fibres"}', "executor"),
    ],
)
def test_a_contract_that_cannot_be_read_says_what_is_at_fault(text: str, at_fault: str) -> None:
    with pytest.raises(ContractError, match=at_fault):
        BranchContract.decode(text)


@given(st.text())
def test_any_text_is_a_contract_or_a_contract_error(text: str) -> None:
    with pytest.raises(ContractError):
        BranchContract.decode(text)


@given(retries, st.integers(1, 10**9))
def test_a_delay_is_bounded_and_never_shorter_than_the_one_before(retry: RetryContract, attempt: int) -> None:
    delay = retry.delay_seconds(attempt)
    assert 0 < delay <= retry.max_seconds
    assert delay <= retry.delay_seconds(attempt + 1)


def test_delays_grow_by_the_factor_until_the_bound() -> None:
    retry = RetryContract(initial_seconds=1, factor=2, max_seconds=10)
    assert [retry.delay_seconds(attempt) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]
