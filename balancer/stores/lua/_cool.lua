-- Stands before the scripts that put accounts in a cooldown.

-- A longer cooldown wins over a shorter one. `pause` has scope, ends, reason and worth_waiting.
local function cool(id, account, pause)
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
