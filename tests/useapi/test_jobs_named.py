"""Which job an answer names by the row, and what becomes of ids that come twice or with white space."""

import pytest
from desk import Desk, states
from faces import both_faces, pool_for
from structlog.testing import capture_logs

from balancer import SERVICES, AccountPool
from balancer.testing import ManualClock


def warnings(logs):
    """Return the names of the warnings among what was logged."""
    return [log["event"] for log in logs if log["log_level"] == "warning"]


SONG = "user:1-minimax:7-music:1"
NAMED = [
    ("flowmusic", {"jobid": "j1", "status": "pending"}, "j1"),
    ("riffusion", {"job_id": "j1", "user_id": "u"}, "j1"),
    ("kling", {"task": {"id": 17}}, "17"),
    ("minimax", {"videoId": "v1"}, "v1"),
    ("minimax/music", [{"musicId": SONG}], SONG),
    ("minimax/music", {"musicId": SONG}, SONG),
    ("minimax/audio", {"audioId": "user:1-minimax:7-audio:1"}, "user:1-minimax:7-audio:1"),
    ("tempolor", {"jobs": ["t1"], "unlimited": True}, "t1"),
    ("tempolor", {"job_id": "t1", "status_final": False}, "t1"),
    ("pixverse", {"audio_id": "user:1-pixverse:a-music:1"}, "user:1-pixverse:a-music:1"),
    ("flowmusic", {"jobid": " j1\n"}, "j1"),
]


@both_faces
@pytest.mark.parametrize(("key", "body", "job"), NAMED)
@pytest.mark.parametrize("form", ["answer", "body"])
def test_bind_true_finds_the_job_wherever_the_row_says(face, key, body, job, form):
    """Who wrote the key by hand and missed it had a slot freed under the running job."""
    pool, sync = pool_for(face, key, {"a": 1})
    face.do(pool.run(face.work(Desk((201, {}, body) if form == "answer" else body)), bind=True))
    assert [(holder.job_id, holder.state) for holder in sync.holders()] == [(job, "bound")]
    assert face.do(pool.release(job_id=f"{job}\n"))


@both_faces
@pytest.mark.parametrize("key", ["tempolor", "minimax/music"])
def test_of_several_jobs_all_are_bound(face, key):
    """The slot is free when the last of them has ended."""
    body = {"jobs": ["t1", "t2", "t2"]} if key == "tempolor" else [{"musicId": "t1"}, {"musicId": "t2"}]
    pool, sync = pool_for(face, key, {"a": 1})
    face.do(pool.run(face.work(Desk((200, {}, body))), bind=True))
    assert [holder.job_id for holder in sync.holders()] == ["t1"]
    assert not sync.release(job_id="t1")
    assert sync.release(job_id="t2")


@both_faces
@pytest.mark.parametrize("answer", [(201, {}, "{}"), (201, {}, "<html>"), (201, {}, "[]"), {}, 17, None])
def test_an_accepted_answer_without_a_job_keeps_its_slot(face, answer):
    """P-57: the job runs, whatever its answer looks like."""
    pool, sync = pool_for(face, "flowmusic", {"a": 1})
    with capture_logs() as logs:
        assert face.do(pool.run(face.work(Desk(answer)), bind=True)) == answer
        sync.stats()
    assert (states(sync), warnings(logs)) == (["ambiguous"], ["job_not_bound"])


@both_faces
@pytest.mark.parametrize("body", [{"status": "completed"}, {"jobid": "j1", "status": "failed"}])
def test_an_answer_that_is_final_itself_frees_its_slot(face, body):
    """A slot bound to a job that is over already was held for an hour."""
    pool, sync = pool_for(face, "flowmusic", {"a": 1})
    with capture_logs() as logs:
        face.do(pool.run(face.work(Desk((200, {}, body))), bind=True))
        sync.stats()
    assert (states(sync), warnings(logs)) == ([], [])


@both_faces
@pytest.mark.parametrize("wrong", [False, 3, 0, b"jobid"])
def test_any_other_bind_is_refused_before_a_slot_is_taken(face, wrong):
    """The error names the argument."""
    pool, sync = pool_for(face, "flowmusic", {"a": 1})
    with pytest.raises(TypeError, match="bind"):
        face.do(pool.run(face.work(Desk()), bind=wrong))
    assert sync.stats().acquired == 0


# -- callbacks that come twice ---------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    """Return a store of each kind that needs no server."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/slots.db"


@both_faces
@pytest.mark.parametrize("early", [False, True])
def test_a_callback_that_comes_twice_frees_one_slot(face, store, early):
    """P-58: the second one was kept for the next bind of that job, which then had no slot while it ran."""
    pool, sync = pool_for(face, "flowmusic", {"a": 2}, store=store)
    lease = face.do(pool.acquire())
    if early:
        assert face.do(pool.release(job_id="j1")) is False
    face.do(lease.bind("j1"))
    assert face.do(pool.release(job_id="j1")) is not early
    assert face.do(pool.release(job_id="j1")) is False
    again = face.do(pool.acquire())
    face.do(again.bind("j1"))
    assert [(holder.job_id, holder.state) for holder in sync.holders()] == [("j1", "bound")]
    assert face.do(pool.release(job_id="j1")) is True
    sync.close()


@both_faces
@pytest.mark.parametrize("spelled", ["j1\n", " j1", "\tj1\r\n"])
def test_white_space_around_a_jobs_id_is_none_of_it(face, store, spelled):
    """An id read from a line never matched the one that was bound: the slot was held for an hour."""
    pool, sync = pool_for(face, "flowmusic", {"a": 3}, store=store)
    face.do(face.do(pool.acquire()).bind("j1"))
    face.do(pool.renew(job_id=spelled, ttl=60))
    assert face.do(pool.release(job_id=spelled)) is True
    face.do(face.do(pool.acquire()).bind(spelled.replace("j1", "j2")))
    assert face.do(pool.release(job_id="j2")) is True
    with pytest.raises(ValueError, match="job_id"):
        face.do(pool.release(job_id=" \n"))
    sync.close()


# -- lists -----------------------------------------------------------------------------------------


class Listed:
    """Accounts and running jobs as a test says; the jobs are read by the row of a service."""

    def __init__(self, key, accounts, body):
        self.row, self.names, self.body = SERVICES[key], accounts, body

    def accounts(self):
        """Return the accounts."""
        return self.names

    def jobs(self):
        """Return what the service's list says."""
        from balancer.useapi.parsing import job_list

        return job_list(self.body, self.row)


def minimax(**jobs):
    """Return MiniMax's list of running jobs."""
    return {"executing": [{name: id} for name, id in jobs.items()], "available": []}


ALL_KINDS = minimax(
    videoId="user:1-minimax:7-video:1",
    imageId="user:1-minimax:7-image:2",
    musicId="user:1-minimax:7-music:3",
    audioId="user:1-minimax:7-audio:4",
)


@pytest.mark.parametrize("key", ["minimax", "minimax/images", "minimax/music", "minimax/audio"])
def test_each_kind_of_minimax_counts_its_own_jobs(key):
    """A running song took a slot from the videos, and made each list one that nothing could be told from."""
    with AccountPool(key, source=Listed(key, {"7": 5}, ALL_KINDS), clock=ManualClock()) as pool:
        pool.reconcile()
        assert pool.stats().external == 1


def test_a_running_song_does_not_keep_the_slots_of_videos_that_are_over():
    """One song on the list, and no video's slot ever came back before an hour was over."""
    clock = ManualClock()
    source = Listed("minimax", {"7": 2}, minimax(musicId="user:1-minimax:7-music:3"))
    with AccountPool("minimax", source=source, clock=clock) as pool:
        pool.acquire().bind("user:1-minimax:7-video:1")
        for _ in range(3):
            clock.advance(31)
            pool.reconcile()
        assert pool.holders() == ()


def test_a_job_of_pixverse_that_no_list_has_keeps_its_slot():
    """Off-peak jobs are on no list: their slots were given out again while they ran."""
    clock = ManualClock()
    with AccountPool("pixverse", source=Listed("pixverse", {"a": 2}, []), clock=clock) as pool:
        pool.acquire().bind("user:1-pixverse:a-video:1")
        for _ in range(3):
            clock.advance(31)
            pool.reconcile()
        assert [holder.state for holder in pool.holders()] == ["bound"]


def test_the_list_of_luma_tells_whose_job_it_is_and_when_it_is_over():
    """Its jobs were but a number: nothing came back before an hour was over."""
    clock = ManualClock()
    ours, theirs = (f"j{n}v-u1-email:a@example.com:x-bot:luma" for n in (1, 2))
    jobs = [{"jobid": id, "type": "video", "account": "a@example.com"} for id in (ours, theirs)]
    source = Listed("luma", {"a@example.com": 4}, {"executing": 2, "jobs": jobs})
    with AccountPool("luma", source=source, clock=clock) as pool:
        pool.acquire().bind(ours)
        pool.reconcile()
        assert (pool.stats().external, pool.stats().free) == (1, 2)
        source.body = {"executing": 0, "jobs": []}
        for _ in range(3):
            clock.advance(31)
            pool.reconcile()
        assert pool.stats().free == 4


@pytest.mark.parametrize(
    ("accounts", "listed", "external"),
    [
        (["ann@example.com", "bob@example.com"], "Ann@Example.com", {"ann@example.com": 1}),
        (["Ann@Example.com"], "ann@example.com", {"Ann@Example.com": 1}),
        (["ann@example.com", "Ann@example.com"], "Ann@example.com", {"Ann@example.com": 1}),
        (["ann@example.com", "Ann@example.com"], "ANN@example.com", {}),
        (["US:ann@example.com"], "US:Ann@example.com", {"US:ann@example.com": 1}),
    ],
)
@pytest.mark.parametrize("shape", ["rows", "counts"])
def test_an_e_mail_in_another_case_is_the_same_account(accounts, listed, external, shape, store):
    """A job on "Ann@…" was nobody's: its slot was taken for free, and the next create was refused."""
    rows = {"running": [{"jobid": "j1", "email": listed}]}
    counts = {"accounts": {listed: {"running": 1, "jobs": []}}}
    key = "muse" if shape == "rows" else "gemini-notebook"
    source = Listed(key, dict.fromkeys(accounts, 2), rows if shape == "rows" else counts)
    with AccountPool(key, source=source, clock=ManualClock(), store=store) as pool:
        pool.reconcile()
        told = {id: one.external for id, one in pool.stats().accounts.items() if one.external}
        assert told == external


def test_a_lost_answer_is_not_given_up_while_its_job_is_listed_in_another_case():
    """The slot of a job that ran was freed, as the list spelled its account differently."""
    clock = ManualClock()
    rows = {"running": [{"jobid": "j1", "email": "Ann@example.com"}]}
    source = Listed("muse", {"ann@example.com": 1}, rows)
    with AccountPool("muse", source=source, clock=clock) as pool:
        pool.acquire().report(TimeoutError("read"))
        for _ in range(3):
            clock.advance(31)
            pool.reconcile()
        assert [holder.state for holder in pool.holders()] == ["ambiguous"]


# -- rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "capacity", "said"), [("minimax/music", 1, "documented"), ("minimax/audio", 10, "assumed")]
)
def test_the_capacity_of_a_kind_is_its_own(key, capacity, said):
    """Two songs at once on one account were refused: ``maxJobs`` is for videos."""
    with AccountPool(key, source={"7": {"maxJobs": 5}}, clock=ManualClock(), reconcile_every=None) as pool:
        stats = pool.stats()
        assert stats.capacity == capacity
        assert said in (pool.acquire().account.note or "")


@pytest.mark.parametrize(("key", "name"), [("acemusic", "plan"), ("gemini-notebook", "tier")])
def test_the_plan_of_an_account_can_be_chosen_by(key, name):
    """``where`` could not see what the entry says."""
    source = {"a": {"maxJobs": 1, name: "free"}, "b": {"maxJobs": 1, name: "pro"}}
    with AccountPool(key, source=source, clock=ManualClock(), reconcile_every=None) as pool:
        assert pool.acquire(where=lambda one: one.fields[name] == "pro", timeout=0).account.id == "b"


def test_the_creates_of_kling_that_take_neither_field_are_named():
    """Whoever fills in ``maxJobs`` and ``replyRef`` has to leave them out there."""
    assert set(SERVICES["kling"].plain) == {"omni", "motion-create", "tts", "add-sound"}
