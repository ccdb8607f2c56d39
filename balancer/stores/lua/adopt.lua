-- Jobs that run already.

-- If the last list counted the job as one of others, it is none any more.
local function take_from_others(id, account, job)
  local listed = take_off_list(job)
  if not listed or account.external == 0 then return end
  if listed.lease and call('HEXISTS', K.rows, listed.lease) == 1 then return end
  local external = read(K.meta, 'external')
  account.external = account.external - 1
  external[id] = account.external
  write(K.meta, 'external', external)
  write(K.accounts, id, account)
end

local function adopted(key, row)
  return {
    key = key, account = row.account, live = row.state == 'bound', jobs = jobs_of(row), age = now - row.since,
    label = row.label,
  }
end

-- Write down a job that runs already, even over the bound.
-- Answer  {key, account, live, jobs, age in ms, label}, of an older lease if the job is bound; or nil
local function adopt(key, job, id, ttl)
  enter()
  local bound = call('HGET', K.jobs, job)
  if bound then return leave(adopted(bound, read(K.rows, bound))) end
  local account = read(K.accounts, id)
  if not account or account.draining then return leave() end
  local row = {account = id, since = now, process = ARGV[2], job = job, accepted = true}
  if not remembers(K.early, job) and not remembers(K.done, job) then
    take_from_others(id, account, job)
    call('HSET', K.jobs, job, key)
    call('ZADD', K.held, 0, member(id, key))
    loosen(key, row, 'bound', now + ttl)
    write(K.rows, key, row)
    refile(id, account)
  end
  return leave(adopted(key, row))
end
