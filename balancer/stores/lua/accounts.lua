-- What answers, and people, make of an account.

-- A longer cooldown wins over a shorter one. `pause` has scope, ends, reason and worth_waiting.
local function cool_down(id, account, pause)
  local kept = {}
  for _, old in ipairs(account.pauses or {}) do
    if old.scope ~= pause.scope then
      kept[#kept + 1] = old
    elseif old.cooling and old.ends >= pause.ends then
      return
    end
  end
  pause.cooling = true
  kept[#kept + 1] = pause
  account.pauses = kept
  write(K.accounts, id, account)
  call('ZADD', K.agenda, pause.ends, pause_name(id, pause.scope))
  refile(id, account)
end

-- Put an account, or a scope of it, in a cooldown.
-- Answer  whether there is such an account
local function cool(id, length, scope, reason, worth_waiting)
  enter()
  local account = read(K.accounts, id)
  if not account then return leave() end
  cool_down(id, account, {scope = scope, ends = now + length, reason = reason, worth_waiting = worth_waiting})
  return leave(true)
end

-- Clear what verdicts made of an account.
-- Answer  whether there is such an account
local function reset(id)
  enter()
  local account = read(K.accounts, id)
  if not account then return leave() end
  for _, pause in ipairs(account.pauses or {}) do
    call('ZREM', K.agenda, pause_name(id, pause.scope))
  end
  account.pauses, account.limit = nil, nil
  retime(id, account)
  write(K.accounts, id, account)
  refile(id, account)
  return leave(true)
end
