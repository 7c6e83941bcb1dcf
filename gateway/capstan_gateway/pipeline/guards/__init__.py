"""What GuardPolicies do with requests and answers.

kind ─► compiled ─► layer ─► pieces ─► stage ─► told, counting, audit
                      │                  └─► port: who asks somebody (asking)
                      └─► output: whole answers; streams: the others
"""
