"""One line of log for each request, numbered within its process."""

import itertools
import logging
import os

log = logging.getLogger("site")


class RequestLog:
    def __init__(self, get_response):
        self.get_response = get_response
        self.numbers = itertools.count(1)

    def __call__(self, request):
        response = self.get_response(request)
        log.info(
            "site %s %s %d worker=%d request=%d",
            request.method,
            request.get_full_path(),
            response.status_code,
            os.getpid(),
            next(self.numbers),
        )
        return response
