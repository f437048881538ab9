package io.github.falrpc;

import com.google.protobuf.*;
import com.google.rpc.*;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.*;

/** What a failed call tells. */
public final class Errors {
  private Errors() {}

  /** Whether the same call may be made again: falrpc itself says that nothing was accepted, or it only read. */
  public static boolean safeToRepeat(Throwable error) {
    return Status.fromThrowable(error).getCode() == Status.Code.UNAVAILABLE && info(error).isPresent();
  }

  /** The reason as docs/errors.md lists it; empty when the status is not falrpc's. */
  public static String reason(Throwable error) {
    return info(error).map(ErrorInfo::getReason).orElse("");
  }

  /** What falrpc tells besides: delivery, request_id, http_status and others. */
  public static Map<String, String> metadata(Throwable error) {
    return info(error).map(ErrorInfo::getMetadataMap).orElse(Map.of());
  }

  /** How long to wait before the same call may succeed; empty when nothing is known of that. */
  public static Optional<Duration> retryAfter(Throwable error) {
    return detail(error, RetryInfo.class).map(RetryInfo::getRetryDelay)
        .map(delay -> Duration.ofSeconds(delay.getSeconds(), delay.getNanos()));
  }

  /** The refused fields of the request, with fal's own paths below {@code input}. */
  public static List<BadRequest.FieldViolation> fieldViolations(Throwable error) {
    return detail(error, BadRequest.class).map(BadRequest::getFieldViolationsList).orElse(List.of());
  }

  private static Optional<ErrorInfo> info(Throwable error) {
    return detail(error, ErrorInfo.class).filter(info -> info.getDomain().matches("falrpc|fal\\.ai"));
  }

  private static <T extends Message> Optional<T> detail(Throwable error, Class<T> type) {
    try {
      com.google.rpc.Status status = StatusProto.fromThrowable(error);
      for (Any detail : status == null ? List.<Any>of() : status.getDetailsList()) {
        if (detail.is(type)) {
          return Optional.of(detail.unpack(type));
        }
      }
    } catch (InvalidProtocolBufferException | IllegalArgumentException e) {
    } // details that are broken or belong to another status tell nothing
    return Optional.empty();
  }
}
