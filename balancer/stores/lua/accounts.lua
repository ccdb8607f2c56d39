-- What answers, and people, make of an account.

-- A longer cooldown wins over a shorter one. `cooldown` has scope, ends, reason and worth_waiting.
local function cool_down(id, account, cooldown)
  local kept = {}
  for _, old in ipairs(account.cooldowns or {}) do
    if old.scope ~= cooldown.scope then
      kept[#kept + 1] = old
    elseif old.cooling and old.ends >= cooldown.ends then
      return
    end
  end
  cooldown.cooling = true
  kept[#kept + 1] = cooldown
  account.cooldowns = kept
  write(K.accounts, id, account)
  call('ZADD', K.timers, cooldown.ends, cooldown_name(id, cooldown.scope))
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
  for _, cooldown in ipairs(account.cooldowns or {}) do
    call('ZREM', K.timers, cooldown_name(id, cooldown.scope))
  end
  account.cooldowns, account.limit = nil, nil
  retime(id, account)
  write(K.accounts, id, account)
  refile(id, account)
  return leave(true)
end
