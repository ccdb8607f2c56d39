-- What answers say of a lease and its account, and what refusals teach.

-- Jobs that are known to run beside that of the lease.
local function jobs_beside(key, id, account)
  local jobs = account.external
  each_on(id, function(other, text)
    local row = text and other ~= key and cjson.decode(text)
    if row and not row.declined and row.state ~= 'ambiguous' then jobs = jobs + 1 end
  end)
  return jobs
end

-- Learn from a refusal how many jobs the account bears. Return whether it is only full, and need not cool.
local function learn(key, id, account)
  local limit = account.limit or {jobs = account.capacity, wait = FIRST_WAIT}
  local others, was = jobs_beside(key, id, account), limit.jobs
  if limit.trial == key then
    limit.trial, limit.wait = nil, math.min(LONGEST_WAIT, 2 * limit.wait)
  elseif others > 0 then
    limit.jobs = math.min(others, was)
  end
  if limit.jobs < account.capacity then
    limit.due, limit.next_at = nil, now + limit.wait
    account.limit = limit
    retime(id, account)
    write(K.accounts, id, account)
    refile(id, account)
  end
  if limit.jobs < was then note_limit(id, account, limit.jobs, 0) end
  return others > 0
end

-- Put into effect what an answer said about a lease and its account.
-- Answer  {live: there is the lease, cooling: the account cools for it}
local function report(
  key, id, accepted, doubt, adverse, length, scope, reason, worth_waiting, named, teaches
)
  enter()
  local row, account = read(K.rows, key), read(K.accounts, id)
  local only_full = teaches and account and not (row and row.accepted) and learn(key, id, account)
  if row then
    if accepted then accept(key, row, account) elseif account then end_trial(id, account, key) end
    if doubt and row.state ~= 'bound' then
      row.orphaned = nil -- its process says so itself
      loosen(key, row, 'ambiguous', now + AMBIGUOUS_TTL)
    end
    if not accepted and not doubt then row.declined = not row.accepted or nil end
    if adverse then row.adverse = true end
    write(K.rows, key, row)
  end
  local cools = length and account and not (only_full and not named)
  if cools then
    cool_down(id, account, {scope = scope, ends = now + length, reason = reason, worth_waiting = worth_waiting})
  end
  return leave({live = row ~= nil, cooling = cools or false})
end
