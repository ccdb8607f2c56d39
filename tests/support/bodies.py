"""Example bodies of every service, constructed: invented ids, addresses at example.com.

The key is ``service/what``. Where the name ends in ``_inferred`` the vendor's pages show the shape only
in part. ``pixverse/scheduler_available`` keeps numbers that do not add up, as the vendor's own page has
them; ``riffusion/accounts_malformed`` repeats that page's missing comma and trailing commas.
"""

from __future__ import annotations

from typing import Any

BODIES: dict[str, Any] = {
    "_common/401": {"error": "Unauthorized", "code": 401},
    "_common/401_no_code": {"error": "Unauthorized"},
    "_common/402_token_subscription": {
        "error": "Account has no subscription or subscription expired",
        "code": 402,
    },
    "_common/412_credits": {"error": "Not enough credits: requested 3, available 0", "code": 412},
    "_common/503_upstream": {
        "error": {"code": 503, "message": "Service temporarily unavailable.", "status": "UNAVAILABLE"}
    },
    "_common/account_all_optional_empty": {"x@example.com": {}},
    "dreamina/account_one": {
        "account": "US:a@example.com",
        "email": "a@example.com",
        "region": "US",
        "maxJobs": 10,
        "sessionExpires": "2026-12-01T12:00:00.000Z",
        "session": {
            "expires": "2026-12-01T12:00:00.000Z",
            "lastRefreshed": "2026-10-01T12:00:00.000Z",
            "daysUntilExpiry": 60,
        },
        "models": {"video": ["seedance-2.0"], "image": ["seedream-4.5"]},
        "credits": {"total": 24065, "vip": 12000, "gift": 10065, "purchase": 2000, "dailyClaimed": True},
    },
    "dreamina/accounts_inferred": {
        "US:a@example.com": {
            "account": "US:a@example.com",
            "email": "a@example.com",
            "region": "US",
            "maxJobs": 10,
            "sessionExpires": "2026-12-01T12:00:00.000Z",
        },
        "CA:a@example.com": {
            "account": "CA:a@example.com",
            "email": "a@example.com",
            "region": "CA",
            "maxJobs": 50,
            "sessionExpires": "2026-12-01T12:00:00.000Z",
        },
        "US:b@example.com": {
            "account": "US:b@example.com",
            "email": "b@example.com",
            "region": "US",
            "maxJobs": 10,
            "sessionExpires": "2026-12-01T12:00:00.000Z",
            "error": "Session expired",
        },
    },
    "dreamina/create_402": {"error": "Account has no subscription or subscription expired"},
    "dreamina/scheduler": {
        "executing": {
            "US:a@example.com": [
                {
                    "jobid": "j1014v-u1234-US:a@example.com-bot:dreamina",
                    "submitId": "00000000-0000-4000-8000-000000000001",
                    "model": "seedance-2.0",
                    "elapsedSeconds": 45,
                    "replyUrl": "https://example.com/h",
                }
            ]
        },
        "total": 1,
    },
    "dreamina/scheduler_empty": {"executing": {}, "total": 0},
    "faceswap/accounts": {
        "1234567890123456789": {
            "server": "1",
            "channel": "1234567890123456789",
            "discord": "…secured…",
            "credits": {"timestamp": "2026-02-01T02:05:24.991000+00:00", "total": 50, "used": 18},
        },
        "2234567890123456789": {"server": "2", "channel": "2234567890123456789", "discord": "…secured…"},
    },
    "faceswap/accounts_exhausted": {
        "1234567890123456789": {
            "server": "1",
            "channel": "1234567890123456789",
            "discord": "…secured…",
            "credits": {"timestamp": "2026-02-01T02:05:24.991000+00:00", "total": 50, "used": 50},
        }
    },
    "flowmusic/account_email": {
        "email": "a@example.com",
        "tier": "plus",
        "subscription_plan": "plus-monthly",
        "provider": "g1_entitlement",
        "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
        "maxJobs": 12,
        "added": "2026-06-01T12:00:00.000Z",
        "refreshed_at": "2026-06-01T12:00:00.000Z",
        "refreshed_count": 0,
        "access_token": "eyJ…redacted…",
        "access_token_expires_at": "2026-06-01T13:00:00.000Z",
        "refresh_token": "abc…redacted…",
        "session_id": "22222222-bbbb-4bbb-8bbb-000000000002",
        "credits_remaining": 5000,
        "tokens_remaining": 60000,
    },
    "flowmusic/accounts": {
        "a@example.com": {
            "email": "a@example.com",
            "tier": "plus",
            "subscription_plan": "plus-monthly",
            "provider": "g1_entitlement",
            "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "maxJobs": 12,
            "added": "2026-06-01T12:00:00.000Z",
            "refreshed_at": "2026-06-01T12:00:00.000Z",
            "refreshed_count": 0,
            "access_token": "eyJ…redacted…",
            "access_token_expires_at": "2026-06-01T13:00:00.000Z",
            "refresh_token": "abc…redacted…",
            "session_id": "22222222-bbbb-4bbb-8bbb-000000000002",
        },
        "b@example.com": {
            "email": "b@example.com",
            "tier": "plus",
            "subscription_plan": "plus-monthly",
            "provider": "g1_entitlement",
            "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "maxJobs": 4,
            "added": "2026-06-01T12:00:00.000Z",
            "refreshed_at": "2026-06-01T12:00:00.000Z",
            "refreshed_count": 0,
            "access_token": "eyJ…redacted…",
            "access_token_expires_at": "2026-06-01T13:00:00.000Z",
            "refresh_token": "abc…redacted…",
            "session_id": "22222222-bbbb-4bbb-8bbb-000000000002",
        },
    },
    "flowmusic/accounts_empty": {},
    "flowmusic/accounts_error": {
        "a@example.com": {
            "email": "a@example.com",
            "tier": "plus",
            "subscription_plan": "plus-monthly",
            "provider": "g1_entitlement",
            "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "maxJobs": 12,
            "added": "2026-06-01T12:00:00.000Z",
            "refreshed_at": "2026-06-01T12:00:00.000Z",
            "refreshed_count": 0,
            "access_token": "eyJ…redacted…",
            "access_token_expires_at": "2026-06-01T13:00:00.000Z",
            "refresh_token": "abc…redacted…",
            "session_id": "22222222-bbbb-4bbb-8bbb-000000000002",
        },
        "b@example.com": {
            "email": "b@example.com",
            "tier": "plus",
            "subscription_plan": "plus-monthly",
            "provider": "g1_entitlement",
            "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "maxJobs": 4,
            "added": "2026-06-01T12:00:00.000Z",
            "refreshed_at": "2026-06-01T12:00:00.000Z",
            "refreshed_count": 0,
            "access_token": "eyJ…redacted…",
            "access_token_expires_at": "2026-06-01T13:00:00.000Z",
            "refresh_token": "abc…redacted…",
            "session_id": "22222222-bbbb-4bbb-8bbb-000000000002",
            "error": "refresh token rejected",
        },
    },
    "flowmusic/create_201": {
        "jobid": "job:00000000-0000-4000-8000-000000000002-user:1234-a@example.com-bot:flowmusic",
        "email": "a@example.com",
        "request": {"prompt": "lo-fi", "mode": "async"},
        "created_at": "2026-06-01T12:11:00.000Z",
        "status": "pending",
    },
    "flowmusic/create_596": {
        "error": "Account b@example.com in error state: refresh token rejected",
        "code": 596,
    },
    "flowmusic/job_completed": {
        "jobid": "job:00000000-0000-4000-8000-000000000002-user:1234-a@example.com-bot:flowmusic",
        "email": "a@example.com",
        "request": {"prompt": "lo-fi", "mode": "async"},
        "created_at": "2026-06-01T12:11:00.000Z",
        "completed_at": "2026-06-01T12:13:19.000Z",
        "duration_ms": 139000,
        "status": "completed",
        "clips": [
            {
                "clip": "user:1234-clip:1",
                "title": "x",
                "duration_s": 173.03,
                "audio_url": "https://example.com/1.m4a",
            }
        ],
    },
    "flowmusic/job_failed": {
        "jobid": "job:00000000-0000-4000-8000-000000000003-user:1234-a@example.com-bot:flowmusic",
        "email": "a@example.com",
        "created_at": "2026-06-01T12:11:00.000Z",
        "completed_at": "2026-06-01T12:12:00.000Z",
        "status": "failed",
        "error": {"code": "user_cancelled", "message": "Cancelled by user"},
    },
    "flowmusic/jobs": {
        "a@example.com": {
            "running": 1,
            "maxJobs": 12,
            "jobs": [
                {
                    "jobid": "job:00000000-0000-4000-8000-000000000001-user:1234-a@example.com-bot:flowmusic",
                    "status": "pending",
                    "created_at": "2026-06-01T12:10:00.000Z",
                }
            ],
        }
    },
    "flowmusic/jobs_empty": {},
    "google-flow/accounts": {
        "a@example.com": {
            "created": "2026-09-09T22:02:04.802Z",
            "health": "OK",
            "nextRefresh": {"scheduledFor": "2026-10-14T11:46:01.000Z"},
            "project": {"projectId": "11111111-aaaa-4aaa-8aaa-000000000001", "projectTitle": "p"},
            "sessionData": {"expires": "2026-10-14T12:46:01.000Z"},
        },
        "b@example.com": {
            "created": "2026-09-09T22:02:04.802Z",
            "health": "OK",
            "nextRefresh": {"scheduledFor": "2026-10-14T11:46:01.000Z"},
            "project": {"projectId": "11111111-aaaa-4aaa-8aaa-000000000001", "projectTitle": "p"},
            "sessionData": {"expires": "2026-10-14T12:46:01.000Z"},
        },
    },
    "google-flow/accounts_empty": {},
    "google-flow/create_201": {
        "jobid": "j1014v-u1234-email:a@example.com-bot:google-flow",
        "type": "video",
        "status": "created",
        "created": "2026-10-14T10:00:00.000Z",
        "request": {"email": "a@example.com", "prompt": "x", "async": True},
        "response": {
            "operations": [{"operation": {"name": "op"}, "status": "MEDIA_GENERATION_STATUS_PENDING"}]
        },
    },
    "google-flow/create_400_moderated": {
        "error": {
            "code": 400,
            "message": "Request contains an invalid argument.",
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "PUBLIC_ERROR_TRUMP_FACE_DETECTED",
                }
            ],
        }
    },
    "google-flow/create_404": {"error": "Google Flow account a@example.com not found"},
    "google-flow/create_429_headers_inferred": {"Retry-After": "1800", "Content-Type": "application/json"},
    "google-flow/create_429_no_eligible_account_inferred": {
        "error": "no_eligible_account",
        "code": 429,
        "retryAfter": "2026-10-14T10:17:00.000Z",
    },
    "google-flow/create_429_per_model_daily_quota_reached_inferred": {
        "error": {
            "code": 429,
            "message": "Resource has been exhausted (e.g. check quota).",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "PUBLIC_ERROR_PER_MODEL_DAILY_QUOTA_REACHED",
                }
            ],
        },
        "retryAfter": "2026-10-15T00:00:00.000Z",
    },
    "google-flow/create_429_unusual_activity_too_much_traffic_inferred": {
        "error": {
            "code": 429,
            "message": "Resource has been exhausted (e.g. check quota).",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "PUBLIC_ERROR_UNUSUAL_ACTIVITY_TOO_MUCH_TRAFFIC",
                }
            ],
        },
        "retryAfter": "2026-10-14T10:01:00.000Z",
    },
    "google-flow/create_429_user_quota_reached_inferred": {
        "error": {
            "code": 429,
            "message": "Resource has been exhausted (e.g. check quota).",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "PUBLIC_ERROR_USER_QUOTA_REACHED",
                }
            ],
        },
        "retryAfter": "2026-10-14T10:30:00.000Z",
    },
    "google-flow/create_429_user_requests_throttled_inferred": {
        "error": {
            "code": 429,
            "message": "Resource has been exhausted (e.g. check quota).",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "PUBLIC_ERROR_USER_REQUESTS_THROTTLED",
                }
            ],
        },
        "retryAfter": "2026-10-14T10:30:00.000Z",
    },
    "google-flow/create_596": {"error": "Failed to refresh session: 500 Internal Server Error"},
    "google-flow/job_410": {"error": "Job has expired", "code": 410},
    "google-flow/job_completed": {
        "jobid": "j1014v-u1234-email:a@example.com-bot:google-flow",
        "type": "video",
        "status": "completed",
        "created": "2026-10-14T10:00:00.000Z",
        "updated": "2026-10-14T10:02:00.000Z",
        "request": {"email": "a@example.com"},
        "response": {"media": [{"videoUrl": "https://example.com/v.mp4"}]},
    },
    "google-flow/jobs_executing": {
        "emails": ["a@example.com"],
        "videos": {
            "summary": {
                "a@example.com": {
                    "executing": 2,
                    "completed": 5,
                    "failed": 0,
                    "rateLimited": 0,
                    "avgResponseTime": 61000,
                    "score": 2,
                }
            },
            "executing": {
                "j1014v-u1234-email:a@example.com-bot:google-flow": {
                    "email": "a@example.com",
                    "timestamp": 1792000000000,
                    "elapsed": "00:41",
                }
            },
        },
        "images": {"summary": {}},
        "combined": {
            "summary": {
                "a@example.com": {
                    "executing": 2,
                    "completed": 5,
                    "failed": 0,
                    "rateLimited": 0,
                    "avgResponseTime": 61000,
                    "score": 2,
                }
            }
        },
    },
    "google-flow/jobs_summary": {
        "emails": ["a@example.com", "b@example.com"],
        "videos": {
            "summary": {
                "a@example.com": {
                    "executing": 2,
                    "completed": 5,
                    "failed": 0,
                    "rateLimited": 0,
                    "avgResponseTime": 61000,
                    "score": 2,
                },
                "b@example.com": {
                    "executing": 0,
                    "completed": 1,
                    "failed": 1,
                    "rateLimited": 1,
                    "avgResponseTime": 70000,
                    "score": 30,
                },
            }
        },
        "images": {
            "summary": {
                "a@example.com": {
                    "executing": 0,
                    "completed": 5,
                    "failed": 0,
                    "rateLimited": 0,
                    "avgResponseTime": 61000,
                    "score": 0,
                },
                "b@example.com": {
                    "executing": 0,
                    "completed": 5,
                    "failed": 0,
                    "rateLimited": 0,
                    "avgResponseTime": 61000,
                    "score": 0,
                },
            }
        },
        "combined": {
            "summary": {
                "a@example.com": {
                    "executing": 2,
                    "completed": 5,
                    "failed": 0,
                    "rateLimited": 0,
                    "avgResponseTime": 61000,
                    "score": 2,
                },
                "b@example.com": {
                    "executing": 0,
                    "completed": 1,
                    "failed": 1,
                    "rateLimited": 1,
                    "avgResponseTime": 70000,
                    "score": 30,
                },
            }
        },
    },
    "kling/account_email": {
        "email": "a@example.com",
        "session": {
            "userId": "user12345",
            "ExpireTime": 1792000000000,
            "ExpireTimeUTC": "2026-10-14T17:46:40.000Z",
        },
        "maxJobs": 8,
        "password": "…secured…",
        "balance": {
            "points": [
                {
                    "orderId": "1",
                    "type": "plan",
                    "amount": 66000,
                    "balance": 56000,
                    "startTime": 1,
                    "endTime": 2,
                }
            ],
            "tickets": [],
            "nextApplyTime": 1,
            "total": 56000,
        },
    },
    "kling/accounts": {
        "a@example.com": {
            "email": "a@example.com",
            "session": {
                "userId": "user12345",
                "ExpireTime": 1792000000000,
                "ExpireTimeUTC": "2026-10-14T17:46:40.000Z",
            },
            "maxJobs": 8,
            "password": "…secured…",
        },
        "b@example.com": {
            "email": "b@example.com",
            "session": {
                "userId": "user12345",
                "ExpireTime": 1792000000000,
                "ExpireTimeUTC": "2026-10-14T17:46:40.000Z",
            },
            "maxJobs": 50,
            "password": "…secured…",
        },
    },
    "kling/create_200": {
        "task": {
            "id": 1234567890,
            "userId": 12345,
            "type": "m2v_txt2video",
            "scene": "NORMAL_CREATION",
            "status": 5,
        }
    },
    "kling/scheduler": [
        {
            "id": 123456789,
            "email": "a@example.com",
            "started": "2026-10-14T10:00:00.789Z",
            "elapsed": "03:45",
            "replyUrl": "https://example.com/h",
            "replyRef": "r",
        },
        {
            "id": 987654321,
            "email": "b@example.com",
            "started": "2026-10-14T10:01:00.890Z",
            "elapsed": "02:34",
        },
    ],
    "kling/scheduler_available": {
        "executing": [
            {
                "id": 123456789,
                "email": "a@example.com",
                "started": "2026-10-14T10:00:00.789Z",
                "elapsed": "03:45",
                "replyUrl": "https://example.com/h",
                "replyRef": "r",
            },
            {
                "id": 987654321,
                "email": "b@example.com",
                "started": "2026-10-14T10:01:00.890Z",
                "elapsed": "02:34",
            },
        ],
        "available": [
            {"email": "a@example.com", "maxJobs": 8, "executing": 1, "available": 7},
            {"email": "b@example.com", "maxJobs": 50, "executing": 1, "available": 49},
        ],
    },
    "kling/task_succeed": {
        "status": 99,
        "status_name": "succeed",
        "status_final": True,
        "etaTime": 0,
        "message": "success",
        "task": {"id": 1234567890, "status": 99, "status_name": "succeed", "status_final": True},
        "works": [
            {
                "workId": 1,
                "taskId": 1234567890,
                "status": 99,
                "status_name": "succeed",
                "status_final": True,
                "contentType": "video",
                "resource": {
                    "resource": "https://example.com/v.mp4",
                    "height": 720,
                    "width": 1280,
                    "duration": 5041,
                },
            }
        ],
    },
    "midjourney-v2/accounts": {
        "1234567890123456789": {
            "channel": "1234567890123456789",
            "discord": "…secured…",
            "server": "1",
            "maxJobs": 3,
        },
        "2234567890123456789": {
            "channel": "2234567890123456789",
            "discord": "…secured…",
            "server": "2",
            "maxJobs": 15,
            "pendingModMessage": "Please acknowledge the warning",
        },
    },
    "midjourney-v2/jobs": ["job:20260101053233367-user:1234-channel:1234567890123456789-bot:midjourney"],
    "midjourney-v2/jobs_402": {"error": "Account has no subscription or subscription expired", "code": 402},
    "midjourney-v2/v1_create_429": {
        "error": "API query is full",
        "executingJobs": ["job:20260101053233367-user:1234"],
        "code": 429,
    },
    "midjourney-v3/jobs": {
        "total": 2,
        "images": 2,
        "videos": 0,
        "channels": {
            "1234567890123456789": {
                "total": 2,
                "images": 2,
                "videos": 0,
                "maxJobs": 3,
                "maxImageJobs": 3,
                "maxVideoJobs": 3,
                "jobs": [
                    {
                        "jobId": "j1023i-u1234-c1234567890123456789-bot:midjourney",
                        "channel": "1234567890123456789",
                        "jobType": "image",
                        "created": "2026-01-23T14:15:20.123Z",
                        "elapsed": "00:32",
                    },
                    {
                        "jobId": "j1024i-u1234-c1234567890123456789-bot:midjourney",
                        "channel": "1234567890123456789",
                        "jobType": "image",
                        "created": "2026-01-23T14:15:25.987Z",
                        "elapsed": "00:27",
                    },
                ],
            }
        },
    },
    "minimax/accounts": {
        "123456": {
            "account": "123456",
            "jwt": {
                "token": "…secured…",
                "user": {
                    "deviceID": "1",
                    "id": "123456",
                    "isAnonymous": False,
                    "name": "n",
                    "avatar": "https://example.com/a.png",
                },
                "exp": 1792000000.864,
                "iat": 1789408000.864,
                "host": "hailuoai.video",
                "searchParams": "…secured…",
                "iat_Issued": "2026-09-14T00:00:00.000Z",
                "exp_Expire": "2026-10-14T00:00:00.000Z",
            },
            "maxJobs": 3,
            "supportVideo": True,
            "supportChat": True,
            "supportAudio": True,
        },
        "78910": {
            "account": "78910",
            "jwt": {
                "token": "…secured…",
                "user": {
                    "deviceID": "1",
                    "id": "78910",
                    "isAnonymous": False,
                    "name": "n",
                    "avatar": "https://example.com/a.png",
                },
                "exp": 1792000000.864,
                "iat": 1789408000.864,
                "host": "hailuoai.video",
                "searchParams": "…secured…",
                "iat_Issued": "2026-09-14T00:00:00.000Z",
                "exp_Expire": "2026-10-14T00:00:00.000Z",
            },
            "maxJobs": 2,
            "supportVideo": True,
            "supportChat": True,
            "supportAudio": True,
        },
        "55555": {
            "account": "55555",
            "jwt": {
                "token": "…secured…",
                "user": {
                    "deviceID": "1",
                    "id": "55555",
                    "isAnonymous": False,
                    "name": "n",
                    "avatar": "https://example.com/a.png",
                },
                "exp": 1792000000.864,
                "iat": 1789408000.864,
                "host": "hailuoai.video",
                "searchParams": "…secured…",
                "iat_Issued": "2026-09-14T00:00:00.000Z",
                "exp_Expire": "2026-10-14T00:00:00.000Z",
            },
            "maxJobs": 1,
            "supportVideo": False,
            "supportChat": True,
            "supportAudio": True,
        },
    },
    "minimax/accounts_error": {
        "123456": {
            "account": "123456",
            "jwt": {
                "token": "…secured…",
                "user": {
                    "deviceID": "1",
                    "id": "123456",
                    "isAnonymous": False,
                    "name": "n",
                    "avatar": "https://example.com/a.png",
                },
                "exp": 1792000000.864,
                "iat": 1789408000.864,
                "host": "hailuoai.video",
                "searchParams": "…secured…",
                "iat_Issued": "2026-09-14T00:00:00.000Z",
                "exp_Expire": "2026-10-14T00:00:00.000Z",
            },
            "maxJobs": 3,
            "supportVideo": True,
            "supportChat": True,
            "supportAudio": True,
        },
        "78910": {
            "account": "78910",
            "jwt": {
                "token": "…secured…",
                "user": {
                    "deviceID": "1",
                    "id": "78910",
                    "isAnonymous": False,
                    "name": "n",
                    "avatar": "https://example.com/a.png",
                },
                "exp": 1792000000.864,
                "iat": 1789408000.864,
                "host": "hailuoai.video",
                "searchParams": "…secured…",
                "iat_Issued": "2026-09-14T00:00:00.000Z",
                "exp_Expire": "2026-10-14T00:00:00.000Z",
            },
            "maxJobs": 2,
            "supportVideo": True,
            "supportChat": True,
            "supportAudio": True,
            "error": "Account is on hold",
        },
    },
    "minimax/agent_jobs": {
        "accounts": ["123456", "78910"],
        "summary": {"123456": {"executing": 2}},
        "executing": {
            "123456": [
                {"jobId": "p1-u1234-a123456-bot:minimax", "elapsed": "02:15"},
                {"jobId": "p2-u1234-a123456-bot:minimax", "elapsed": "01:30"},
            ]
        },
    },
    "minimax/create_200": {"videoId": "user:1234-minimax:123456-video:777"},
    "minimax/music_busy": {
        "error": "The previous request has not been completed yet. Please try again later."
    },
    "minimax/scheduler_available": {
        "executing": [
            {
                "videoId": "user:1234-minimax:78910-video:1",
                "started": "2026-10-14T10:00:00.128Z",
                "elapsed": "03:57",
                "replyUrl": "https://example.com/h",
                "replyRef": "r",
            },
            {
                "imageId": "user:1234-minimax:123456-image:2",
                "started": "2026-10-14T10:01:00.128Z",
                "elapsed": "00:35",
            },
        ],
        "available": [
            {"account": "123456", "maxJobs": 3, "executing": 0, "available": 3},
            {"account": "78910", "maxJobs": 2, "executing": 1, "available": 1},
        ],
    },
    "mureka/accounts": {
        "123456789": {
            "account": "123456789",
            "token": "abc…secured…",
            "updated": 1792000000,
            "updatedUTC": "2026-10-14T17:46:40.000Z",
            "tokenIssuedDaysAgo": 2,
            "hasAutoRefresh": True,
            "email": "a@example.com",
            "sessionCookie": {
                "name": "__Secure-3PSID",
                "value": "…secured…",
                "domain": ".google.com",
                "path": "/",
                "expires": "2027-02-15T12:00:00.000Z",
                "httpOnly": True,
                "secure": True,
                "sameSite": "None",
                "added": "2026-01-15T10:30:00.000Z",
            },
        },
        "987654321": {
            "account": "987654321",
            "token": "def…secured…",
            "updated": 1792000000,
            "updatedUTC": "2026-10-14T17:46:40.000Z",
            "tokenIssuedDaysAgo": 29,
            "hasAutoRefresh": False,
            "error": "Session refresh failed 2026-10-13T14:31:15.000Z, manual update required",
        },
    },
    "mureka/create_201_async": {
        "jobid": "j1016m-u777-a123456789-bot:mureka",
        "verb": "music/create",
        "jobType": "music",
        "status": "created",
        "created": "2026-10-14T10:00:00.000Z",
    },
    "mureka/job_completed": {
        "jobid": "j1016m-u777-a123456789-bot:mureka",
        "verb": "music/create",
        "jobType": "music",
        "status": "completed",
        "created": "2026-10-14T10:00:00.000Z",
        "updated": "2026-10-14T10:00:45.000Z",
        "request": {"account": "123456789", "prompt": "x", "async": True},
        "response": {
            "feed_id": 1,
            "state": 3,
            "songs": [
                {
                    "song_id": "user:777-mureka:123456789-song:1",
                    "version": "1",
                    "mp3_url": "https://example.com/1.mp3",
                }
            ],
        },
    },
    "mureka/jobs": {
        "total": 3,
        "music": 2,
        "tts": 1,
        "accounts": {
            "123456789": {
                "total": 3,
                "music": 2,
                "tts": 1,
                "jobs": [
                    {"jobid": "j1014t-u777-a123456789-bot:mureka", "verb": "speech", "elapsed": "00:00"},
                    {
                        "jobid": "j1014m-u777-a123456789-bot:mureka",
                        "verb": "music/create",
                        "elapsed": "00:24",
                    },
                    {
                        "jobid": "j1015m-u777-a123456789-bot:mureka",
                        "verb": "music/create-advanced",
                        "elapsed": "00:09",
                    },
                ],
            }
        },
        "availableAccounts": ["987654321", "123456789"],
    },
    "muse/accounts": {
        "a@example.com": {
            "email": "a@example.com",
            "maxJobs": 3,
            "added": "2026-10-12T00:34:19.139Z",
            "updated": "2026-10-12T01:29:14.234Z",
            "sessionExpiresAt": "2026-11-11T00:34:18.820Z",
            "quota": {
                "tier": "HATCH_FREE",
                "percentUsed": 0,
                "resetsAt": "2026-10-19T01:13:05.000Z",
                "quotaStatus": "SUFFICIENT",
                "topupBalance": 0,
                "readAt": "2026-10-12T01:13:05.614Z",
            },
            "health": "OK",
        },
        "b@example.com": {
            "email": "b@example.com",
            "maxJobs": 2,
            "health": "Meta asked for a security check",
        },
    },
    "muse/jobs": {
        "running": [
            {
                "jobid": "j1012i-u1234-email:a@example.com:00000000-0000-4000-8000-000000000001-bot:muse",
                "email": "a@example.com",
                "created": "2026-10-12T01:23:59.487Z",
                "type": "image",
            }
        ],
        "accounts": {
            "a@example.com": {"running": 1, "maxJobs": 3},
            "b@example.com": {"running": 0, "maxJobs": 2},
        },
    },
    "muse/jobs_400_no_account": {
        "error": "Please configure at least one account at "
        "https://useapi.net/docs/api-muse-v1/post-muse-accounts",
        "code": 400,
    },
    "pixverse/accounts": {
        "a@example.com": {
            "email": "a@example.com",
            "jwt": {
                "AccountId": 1,
                "ExpireTime": 1792000000,
                "ExpireTimeUTC": "2026-10-14T17:46:40.000Z",
                "Username": "u",
                "token": "…secured…",
            },
            "maxJobs": 8,
            "password": "…secured…",
        },
        "b@example.com": {
            "email": "b@example.com",
            "jwt": {
                "AccountId": 1,
                "ExpireTime": 1792000000,
                "ExpireTimeUTC": "2026-10-14T17:46:40.000Z",
                "Username": "u",
                "token": "…secured…",
            },
            "maxJobs": 3,
            "password": "…secured…",
        },
    },
    "pixverse/create_200": {"video_id": "user:1234-pixverse:a@example.com-video:9"},
    "pixverse/scheduler": [
        {
            "id": "user:1234-pixverse:b@example.com-video:1",
            "type": "video",
            "started": "2026-10-14T10:00:00.128Z",
            "elapsed": "03:57",
            "replyUrl": "https://example.com/h",
            "replyRef": "r",
        },
        {
            "id": "user:1234-pixverse:b@example.com-image:2",
            "type": "image",
            "started": "2026-10-14T10:01:00.555Z",
            "elapsed": "00:35",
        },
    ],
    "pixverse/scheduler_available": {
        "executing": [
            {
                "id": "user:1234-pixverse:b@example.com-video:1",
                "type": "video",
                "started": "2026-10-14T10:00:00.128Z",
                "elapsed": "03:57",
                "replyUrl": "https://example.com/h",
                "replyRef": "r",
            },
            {
                "id": "user:1234-pixverse:b@example.com-image:2",
                "type": "image",
                "started": "2026-10-14T10:01:00.555Z",
                "elapsed": "00:35",
            },
        ],
        "available": [
            {"email": "a@example.com", "maxJobs": 8, "executing": 3, "available": 2},
            {"email": "b@example.com", "maxJobs": 3, "executing": 2, "available": 1},
        ],
    },
    "pixverse/scheduler_legacy_video_id": [
        {
            "video_id": "user:1234-pixverse:b@example.com-video:1",
            "started": "2026-10-14T10:00:00.128Z",
            "elapsed": "03:57",
        }
    ],
    "pixverse/video_completed": {
        "video_id": "user:1234-pixverse:a@example.com-video:9",
        "video_status_name": "COMPLETED",
        "video_status_final": True,
        "url": "https://example.com/v.mp4",
    },
    "riffusion/accounts": {
        "11111111-aaaa-4aaa-8aaa-000000000001": {
            "jwt": {
                "expires_at": 1792000000,
                "expires_in": 604800,
                "refresh_token": "…secured…",
                "access_token": "…secured…",
                "expires_at_UTC": "2026-10-14T17:46:40.000Z",
                "token_type": "bearer",
                "user": {"id": "11111111-aaaa-4aaa-8aaa-000000000001"},
            },
            "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "maxJobs": 6,
        },
        "22222222-bbbb-4bbb-8bbb-000000000002": {
            "jwt": {
                "expires_at": 1792000000,
                "expires_in": 604800,
                "refresh_token": "…secured…",
                "access_token": "…secured…",
                "expires_at_UTC": "2026-10-14T17:46:40.000Z",
                "token_type": "bearer",
                "user": {"id": "22222222-bbbb-4bbb-8bbb-000000000002"},
            },
            "user_id": "22222222-bbbb-4bbb-8bbb-000000000002",
            "maxJobs": 10,
        },
    },
    "riffusion/accounts_401": {"error": "Unauthorized", "code": 401},
    "riffusion/accounts_empty_map": {},
    "riffusion/accounts_one": {
        "11111111-aaaa-4aaa-8aaa-000000000001": {
            "jwt": {
                "expires_at": 1792000000,
                "expires_in": 604800,
                "refresh_token": "…secured…",
                "access_token": "…secured…",
                "expires_at_UTC": "2026-10-14T17:46:40.000Z",
                "token_type": "bearer",
                "user": {"id": "11111111-aaaa-4aaa-8aaa-000000000001"},
            },
            "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "maxJobs": 1,
        }
    },
    "riffusion/create_200": {
        "job_id": "99999999-0000-4000-8000-000000000005",
        "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
    },
    "riffusion/create_400": {"error": "Parameter prompt is required", "code": 400},
    "riffusion/create_429_inferred": {
        "error": "Too many requests, all configured accounts are at capacity",
        "code": 429,
    },
    "riffusion/create_596": {
        "error": "Your Riffusion account has pending error. Please address this issue at "
        "https://useapi.net/docs/api-riffusion-v1/post-riffusion-accounts before making any new "
        "API calls."
    },
    "riffusion/create_moderated": {
        "is_flagged": True,
        "reason": "moderation",
        "musician_replacement_data": None,
    },
    "riffusion/music_by_id": [
        {
            "id": "99999999-0000-4000-8000-000000000005",
            "group_id": "",
            "author_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "created_at": "2026-10-14T10:04:33.12345Z",
            "title": "Example",
            "lyrics": "[Instrumental]",
            "duration_s": 180.5,
            "privacy": "unlisted",
            "status": "completed",
            "download_url": "https://example.com/a.m4a",
            "share_url": "https://example.com/riff/1",
            "image_url": "https://example.com/a.jpeg",
        }
    ],
    "riffusion/scheduler": [
        {
            "job_id": "99999999-0000-4000-8000-000000000001",
            "user_id": "22222222-bbbb-4bbb-8bbb-000000000002",
            "started": "2026-10-14T10:00:00.128Z",
            "elapsed": "03:57",
            "replyUrl": "https://example.com/hook",
            "replyRef": "ref-1",
        },
        {
            "job_id": "99999999-0000-4000-8000-000000000002",
            "user_id": "22222222-bbbb-4bbb-8bbb-000000000002",
            "started": "2026-10-14T10:03:22.228Z",
            "elapsed": "00:35",
        },
    ],
    "riffusion/scheduler_available": {
        "executing": [
            {
                "job_id": "99999999-0000-4000-8000-000000000001",
                "user_id": "22222222-bbbb-4bbb-8bbb-000000000002",
                "started": "2026-10-14T10:00:00.128Z",
                "elapsed": "03:57",
                "replyUrl": "https://example.com/hook",
                "replyRef": "ref-1",
            },
            {
                "job_id": "99999999-0000-4000-8000-000000000002",
                "user_id": "22222222-bbbb-4bbb-8bbb-000000000002",
                "started": "2026-10-14T10:03:22.228Z",
                "elapsed": "00:35",
            },
        ],
        "available": [
            {"user_id": "11111111-aaaa-4aaa-8aaa-000000000001", "maxJobs": 6, "executing": 0, "available": 6},
            {
                "user_id": "22222222-bbbb-4bbb-8bbb-000000000002",
                "maxJobs": 10,
                "executing": 2,
                "available": 8,
            },
        ],
    },
    "riffusion/scheduler_empty": [],
    "riffusion/scheduler_numeric_started": [
        {
            "job_id": "99999999-0000-4000-8000-000000000003",
            "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "started": 1792000000000,
            "elapsed": "00:05",
        },
        {"job_id": "99999999-0000-4000-8000-000000000004"},
        {},
    ],
    "runwayml/accounts": {
        "a@example.com": {
            "email": "a@example.com",
            "password": "…secured…",
            "jwt": {"token": "…secured…", "exp": 1792000000.864, "iat": 1789408000.864, "id": 123456},
            "maxJobs": 5,
        },
        "b@example.com": {
            "email": "b@example.com",
            "password": "…secured…",
            "jwt": {"token": "…secured…", "exp": 1792000000.864, "iat": 1789408000.864, "id": 123456},
            "maxJobs": 10,
        },
    },
    "runwayml/accounts_error": {
        "a@example.com": {
            "email": "a@example.com",
            "password": "…secured…",
            "jwt": {"token": "…secured…", "exp": 1792000000.864, "iat": 1789408000.864, "id": 123456},
            "maxJobs": 5,
        },
        "b@example.com": {
            "email": "b@example.com",
            "password": "…secured…",
            "jwt": {"token": "…secured…", "exp": 1792000000.864, "iat": 1789408000.864, "id": 123456},
            "maxJobs": 10,
            "error": "Wrong username/password combination.",
        },
    },
    "runwayml/post_account_401": {"error": "Wrong username/password combination.", "code": 401},
    "runwayml/scheduler": [
        {
            "taskId": "user:1234-runwayml:a@example.com-task:00000000-0000-4000-8000-000000000001",
            "replyUrl": "https://example.com/h",
            "replyRef": "r",
        },
        {"taskId": "user:1234-runwayml:b@example.com-task:00000000-0000-4000-8000-000000000002"},
    ],
    "tempolor/accounts_inferred": {
        "12345": {
            "user_id": "12345",
            "updated": 1792000000000,
            "updatedUTC": "2026-10-14T17:46:40.000Z",
            "maxJobs": 10,
            "requestParams": {},
        },
        "67890": {
            "user_id": "67890",
            "updated": 1792000000000,
            "updatedUTC": "2026-10-14T17:46:40.000Z",
            "maxJobs": 5,
            "requestParams": {},
        },
    },
    "tempolor/job_200": {
        "itemId": "abcdef1",
        "job_id": "user:1234-tempolor:12345-job:abcdef1",
        "userId": "12345",
        "status": 30,
        "status_name": "COMPLETED",
        "status_final": True,
        "progress": 100,
    },
    "tempolor/post_account_200": {
        "user_id": "12345",
        "updated": 1792000000000,
        "updatedUTC": "2026-10-14T17:46:40.000Z",
        "maxJobs": 10,
        "requestParams": {},
    },
    "tempolor/scheduler": [
        {
            "job_id": "user:1234-tempolor:12345-job:abcdef1",
            "started": "2026-10-14T10:00:00.789Z",
            "elapsed": "01:23",
            "replyUrl": "https://example.com/h",
            "replyRef": "r",
        }
    ],
    "tempolor/scheduler_available": {
        "executing": [
            {
                "job_id": "user:1234-tempolor:12345-job:abcdef1",
                "started": "2026-10-14T10:00:00.789Z",
                "elapsed": "01:23",
                "replyUrl": "https://example.com/h",
                "replyRef": "r",
            }
        ],
        "available": [
            {"user_id": "12345", "maxJobs": 10, "executing": 1, "available": 9},
            {"user_id": "67890", "maxJobs": 5, "executing": 0, "available": 5},
        ],
    },
}
"""Decoded JSON bodies."""

TEXTS: dict[str, str] = {
    "_common/html_502": "<html><body>502 Bad Gateway</body></html>",
    "riffusion/accounts_404": "Configuration not found. To create configuration use POST accounts.",
    "riffusion/accounts_malformed": """{
  "11111111-aaaa-4aaa-8aaa-000000000001": {
    "jwt": {
      "expires_at": 1792000000,
      "refresh_token": "…secured…",
      "expires_at_UTC": "2026-10-14T17:46:40.000Z"
      "token_type": "bearer",
      "user": { "id": "11111111-aaaa-4aaa-8aaa-000000000001", },
    },
    "maxJobs": 6,
    "user_id": "11111111-aaaa-4aaa-8aaa-000000000001"
  }
}""",
}
"""Answers that are no JSON."""
