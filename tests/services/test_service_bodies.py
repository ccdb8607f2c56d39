"""The documented example bodies of each service, sent over HTTP as they are, and mangled in every way."""

from __future__ import annotations

import pytest
import requests
from bodies import BODIES
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer import SERVICES, AccountPool, AcquireTimeout, NoAccounts, SourceError, Verdict
from balancer.errors import InvalidConfiguration
from balancer.testing import CANARY, FakeUseapi, ManualClock
from balancer.useapi import parsing

A, B = "a@example.com", "b@example.com"
USER, CHANNEL = "22222222-bbbb-4bbb-8bbb-000000000002", "1234567890123456789"

# key: accounts, list of jobs, the external jobs in it, answer to a create and the job that it names
EXAMPLES = {
    "riffusion": ("accounts", "scheduler", {USER: 2}, "create_200", "99999999-0000-4000-8000-000000000005"),
    "flowmusic": ("accounts", "jobs", {A: 1}, "create_201", BODIES["flowmusic/create_201"]["jobid"]),
    "mureka": ("accounts", "jobs", {"123456789": 2}, "create_201_async", "j1016m-u777-a123456789-bot:mureka"),
    "mureka/speech": ("accounts", "jobs", {"123456789": 1}, None, None),
    "minimax": (
        "accounts",
        "scheduler_available",
        {"78910": 1},
        "create_200",
        "user:1234-minimax:123456-video:777",
    ),
    "minimax/images": ("accounts", "scheduler_available", {"123456": 1}, None, None),
    "minimax/music": ("accounts", "scheduler_available", {}, None, None),
    "minimax/audio": ("accounts", "scheduler_available", {}, None, None),
    "minimax/agent": ("accounts", "agent_jobs", {"123456": 2}, None, None),
    "kling": ("accounts", "scheduler", {A: 1, B: 1}, "create_200", "1234567890"),
    "runwayml": ("accounts", "scheduler", {A: 1, B: 1}, None, None),
    "pixverse": (
        "accounts",
        "scheduler",
        {B: 2},
        "create_200",
        "user:1234-pixverse:a@example.com-video:9",
    ),
    "tempolor": ("accounts_inferred", "scheduler", {"12345": 1}, None, None),
    "dreamina": ("accounts_inferred", "scheduler", {"US:a@example.com": 1}, None, None),
    "google-flow": (
        "accounts",
        "jobs_executing",
        {A: 2},
        "create_201",
        "j1014v-u1234-email:a@example.com-bot:google-flow",
    ),
    "muse": ("accounts", "jobs", {A: 1}, None, None),
    "midjourney-v2": ("accounts", "jobs", {CHANNEL: 1}, None, None),
}


def body(key, name):
    """Return an example body of the site of ``key``."""
    return BODIES[f"{key.partition('/')[0]}/{name}"]


@pytest.fixture(scope="module")
def fake():
    """Answer whatever a test scripts."""
    with FakeUseapi({}) as fake:
        yield fake


class Script:
    """What the service of ``key`` answers while this is open."""

    def __init__(self, fake, key, *, accounts, jobs=None, create=None):
        row = self.row = SERVICES[key]
        paths = {row.accounts: accounts, **({row.load.path.partition("?")[0]: jobs} if row.load else {})}
        self.faults = [
            fake.fault(f"GET {row.path}/{path}", status=200, body=answer, times=None)
            for path, answer in paths.items()
        ]
        self.faults.append(fake.fault("POST *", status=201, body=create, times=None))
        self.pool = AccountPool(row, token=fake.token, base_url=fake.url, clock=ManualClock())
        self.url, self.headers = f"{fake.url}{row.path}/create", {"Authorization": f"Bearer {fake.token}"}

    def __enter__(self):
        return self.pool

    def __exit__(self, *error):
        self.pool.close()
        for fault in self.faults:
            fault.lift()

    def create(self, lease):
        return requests.post(self.url, json={**lease.params}, headers=self.headers, timeout=10)


@pytest.mark.parametrize("key", EXAMPLES)
def test_the_examples_of_a_service_are_enough_to_work_by(fake, key):
    """Accounts are read, jobs of others counted, a job created, bound, and kept beside them."""
    accounts, jobs, external, create, job = EXAMPLES[key]
    script = Script(
        fake,
        key,
        accounts=body(key, accounts),
        jobs=body(key, jobs),
        create=body(key, create) if create else {SERVICES[key].job_id[0]: "j-1"},
    )
    with script as pool:
        assert dict(pool.reconcile().adopted) == external
        before = pool.stats()
        assert before.external == sum(external.values())
        with pool.acquire(timeout=0) as lease:
            answer = script.create(lease)
            assert lease.report(answer) is Verdict.ACCEPTED
            lease.bind(parsing.job_id(answer.json(), script.row))
        assert lease.job_id == (job or "j-1")
        done = pool.reconcile()
        assert (dict(done.adopted), done.kept) == (external, (lease.id,))
        assert pool.stats().free == before.free - 1
        assert "secured" not in repr(pool.stats())


def test_no_example_of_accounts_or_jobs_is_left_out():
    """Each service whose list of jobs has an example is among them; one more has no list to be read."""
    kinds = {key for key, row in SERVICES.items() if row.load and (row.load.covers or key == "pixverse")}
    with_example = {name.partition("/")[0] for name in BODIES if "accounts" in name}
    assert {key for key in kinds if key.partition("/")[0] in with_example} == set(EXAMPLES)


# -- mangled ---------------------------------------------------------------------------------------

SCALARS = st.sampled_from([None, True, False, 0, -1, 2.5, 7, "7", "", "x", [], {}, [1], {"x": 1}, CANARY])
MANGLED = [(key, *EXAMPLES[key][:2], EXAMPLES[key][3]) for key in EXAMPLES]


@st.composite
def mangled(draw, value):
    """Return ``value`` with fields missing, extra, null, of another type, or renamed in case."""
    if isinstance(value, dict):
        fields = {}
        for name, inner in value.items():
            action = draw(st.sampled_from(["keep"] * 12 + ["drop", "null", "replace", "case", "extra"]))
            if action != "drop":
                source = {"null": st.none(), "replace": SCALARS}.get(action, mangled(inner))
                fields[name.swapcase() if action == "case" else name] = draw(source)
            if action == "extra":
                fields[draw(st.text("abcXYZ_@", min_size=1, max_size=4))] = draw(SCALARS)
        return fields
    if isinstance(value, list):
        return [draw(mangled(inner)) for inner in value if draw(st.integers(0, 9))]
    return draw(SCALARS) if draw(st.integers(0, 19)) == 0 else value


def with_secret(accounts):
    """Give every entry the secret that mangling may have put into other fields as well."""
    return {
        id: {**entry, "token": CANARY} if isinstance(entry, dict) else entry for id, entry in accounts.items()
    }


@settings(max_examples=150)
@given(data=st.data())
def test_a_mangled_body_costs_one_account_or_one_error(fake, data):
    """Whatever a service of the table sends, the pool works with what is whole, and over no capacity."""
    key, accounts, jobs, create = data.draw(st.sampled_from(MANGLED))
    script = Script(
        fake,
        key,
        accounts=with_secret(data.draw(mangled(body(key, accounts)))),
        jobs=data.draw(mangled(body(key, jobs))),
        create=data.draw(mangled(body(key, create or "create_200"))) if create else {},
    )
    with script as pool:
        try:
            stats = pool.stats()
        except SourceError:
            return
        try:
            with pool.acquire(timeout=0) as lease:
                assert stats.free > 0
                assert stats.accounts[lease.account.id].state == "ready"
                assert lease.report(script.create(lease)) is Verdict.ACCEPTED
                lease.bind("j-1")
        except (NoAccounts, AcquireTimeout):
            assert pool.stats().free == 0
        try:
            done = pool.reconcile()
        except SourceError:
            done = None
        after = pool.stats()
        if done is not None:
            assert {id: done.adopted.get(id, 0) for id in after.accounts} == {
                id: one.external for id, one in after.accounts.items()
            }
        assert all(
            0 <= one.free == max(0, one.capacity - one.in_flight - one.external) or one.state != "ready"
            for one in after.accounts.values()
        )
        assert CANARY not in repr([stats, after.last_error, pool.holders(), pool])


def cased(value, change):
    """Return ``value`` with the names of its fields in another case; ids stay as they are."""
    if isinstance(value, dict):
        return {
            change(name) if name.replace("_", "").isalnum() and not name[0].isdigit() else name: cased(
                inner, change
            )
            for name, inner in value.items()
        }
    return [cased(inner, change) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("change", [str.upper, str.lower, str.swapcase], ids=lambda change: change.__name__)
@pytest.mark.parametrize("key", EXAMPLES)
def test_names_in_another_case_are_the_same_names(key, change):
    """Capacities, troubles, jobs, answers and final statuses are found all the same."""
    accounts, jobs, _, create, _ = EXAMPLES[key]
    row = SERVICES[key]

    def read(value):
        table = parsing.table(value[0], row, None).accounts.values()
        listing = parsing.job_list(value[1], row)
        told = [(account.id, account.capacity, account.broken) for account in table]
        return told, listing.jobs, listing.counts, listing.complete, parsing.job_id(value[2], row)

    bodies = [body(key, accounts), body(key, jobs), body(key, create) if create else None]
    assert read([cased(one, change) for one in bodies]) == read(bodies)


@given(data=st.data())
def test_a_mangled_account_harms_no_other(data):
    """Whatever becomes of one entry, the entries beside it are read as before."""
    key = data.draw(st.sampled_from(list(EXAMPLES)))
    entries = body(key, EXAMPLES[key][0])
    victim = data.draw(st.sampled_from(sorted(entries)))
    changed = {**entries, victim: data.draw(mangled(entries[victim]) | SCALARS)}
    row = SERVICES[key]
    try:
        read = parsing.table(changed, row, None).accounts
    except InvalidConfiguration:
        pytest.fail("one entry made the whole list unusable")
    assert set(read) == set(entries)
    whole = parsing.table(entries, row, None).accounts
    assert all(read[id] == whole[id] for id in entries if id != victim)
