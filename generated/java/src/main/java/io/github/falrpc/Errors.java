package io.github.falrpc;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** What a failed call tells. */
public final class Errors {
  private Errors() {}

  /**
   * Whether the same call may be made again: nothing of it was accepted, or it only read.
   *
   * <p>Only falrpc's own word counts: a status that a proxy or a library made promises nothing.
   */
  public static boolean safeToRepeat(Throwable error) {
    return Status.fromThrowable(error).getCode() == Status.Code.UNAVAILABLE
        && detail(error, ErrorInfo.class).isPresent();
  }

  /** The reason as docs/errors.md lists it, empty when the status is not falrpc's. */
  public static String reason(Throwable error) {
    return detail(error, ErrorInfo.class).map(ErrorInfo::getReason).orElse("");
  }

  /** What falrpc tells besides: delivery, request_id, http_status and others. */
  public static Map<String, String> metadata(Throwable error) {
    return detail(error, ErrorInfo.class).map(ErrorInfo::getMetadataMap).orElse(Map.of());
  }

  /** How long to wait before the same call may succeed; empty when nothing is known of that. */
  public static Optional<Duration> retryAfter(Throwable error) {
    return detail(error, RetryInfo.class)
        .map(RetryInfo::getRetryDelay)
        .map(delay -> Duration.ofSeconds(delay.getSeconds(), delay.getNanos()));
  }

  /** The refused fields of the request, with fal's own paths below {@code input}. */
  public static List<BadRequest.FieldViolation> fieldViolations(Throwable error) {
    return detail(error, BadRequest.class).map(BadRequest::getFieldViolationsList).orElse(List.of());
  }

  private static <T extends Message> Optional<T> detail(Throwable error, Class<T> type) {
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    if (status == null) {
      return Optional.empty();
    }
    for (Any one : status.getDetailsList()) {
      if (one.is(type)) {
        try {
          return Optional.of(one.unpack(type));
        } catch (InvalidProtocolBufferException e) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }
}
