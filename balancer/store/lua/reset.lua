-- Clear what verdicts made of an account.
--
-- ARGV  6 account
-- Answer  1 if there is such an account

local id = ARGV[6]
enter()
local account = read(ACCOUNTS, id)
if not account then return leave() end
for _, pause in ipairs(account.pauses or {}) do
  call('ZREM', AGENDA, pause_name(id, pause.scope))
end
save_pauses(id, account, {})
refile(id, account)
return leave(1)
