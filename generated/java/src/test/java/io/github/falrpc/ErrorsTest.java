package io.github.falrpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ErrorsTest {
  private static StatusRuntimeException failure(Code code, Message... details) {
    Status.Builder status = Status.newBuilder().setCode(code.getNumber()).setMessage("m");
    for (Message detail : details) {
      status.addDetails(Any.pack(detail));
    }
    return StatusProto.toStatusRuntimeException(status.build());
  }

  private static ErrorInfo info(String domain, String reason) {
    return ErrorInfo.newBuilder().setDomain(domain).setReason(reason).putMetadata("delivery", "NOT_SENT").build();
  }

  private static void assertTellsNothing(Throwable error) {
    assertFalse(Errors.safeToRepeat(error));
    assertEquals("", Errors.reason(error));
    assertEquals(Map.of(), Errors.metadata(error));
    assertEquals(Optional.empty(), Errors.retryAfter(error));
    assertEquals(List.of(), Errors.fieldViolations(error));
  }

  /** Only UNAVAILABLE with falrpc's ErrorInfo promises that the call may be repeated; no other's ErrorInfo is read. */
  @ParameterizedTest
  @CsvSource({
    "UNAVAILABLE, falrpc, true, true", "UNAVAILABLE, fal.ai, true, true", "UNAVAILABLE, falXai, false, false",
    "UNAVAILABLE, example.com, false, false", "UNKNOWN, falrpc, false, true", "ABORTED, fal.ai, false, true",
    "RESOURCE_EXHAUSTED, falrpc, false, true"
  })
  void promises(Code code, String domain, boolean isSafe, boolean isRead) {
    var failure = failure(code, info(domain, "SOME_REASON"));
    assertEquals(isSafe, Errors.safeToRepeat(failure));
    assertEquals(isRead ? "SOME_REASON" : "", Errors.reason(failure));
    assertEquals(isRead ? Map.of("delivery", "NOT_SENT") : Map.of(), Errors.metadata(failure));
  }

  /** The details are found, whichever order they have. */
  @Test
  void findsDetails() {
    var delay = com.google.protobuf.Duration.newBuilder().setSeconds(1).setNanos(500_000_000);
    BadRequest refused = BadRequest.newBuilder()
        .addFieldViolations(FieldViolation.newBuilder().setField("input.a").setDescription("d").setReason("R"))
        .addFieldViolations(FieldViolation.newBuilder().setField("input.b"))
        .build();
    var failure = failure(
        Code.INVALID_ARGUMENT,
        refused, RetryInfo.newBuilder().setRetryDelay(delay).build(), info("falrpc", "INVALID_REQUEST"));
    assertEquals("INVALID_REQUEST", Errors.reason(failure));
    assertEquals(Map.of("delivery", "NOT_SENT"), Errors.metadata(failure));
    assertEquals(Optional.of(Duration.ofMillis(1500)), Errors.retryAfter(failure));
    assertEquals(refused.getFieldViolationsList(), Errors.fieldViolations(failure));
  }

  /** They are found in the cause, too: an async stub's future wraps the failure. */
  @Test
  void findsCauses() {
    var failure = new java.util.concurrent.ExecutionException(failure(Code.UNAVAILABLE, info("falrpc", "R")));
    assertTrue(Errors.safeToRepeat(failure));
    assertEquals("R", Errors.reason(failure));
  }

  /** Errors that are no statuses, or have no details, or others, tell nothing. */
  @Test
  void tellsNothing() {
    assertTellsNothing(new IllegalStateException("no status"));
    assertTellsNothing(io.grpc.Status.UNAVAILABLE.asRuntimeException());
    assertTellsNothing(io.grpc.Status.UNAVAILABLE.asRuntimeException(new Metadata()));
    assertTellsNothing(failure(Code.UNAVAILABLE));
    assertTellsNothing(failure(Code.UNAVAILABLE, Status.getDefaultInstance()));
  }

  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private static StatusRuntimeException unavailable(byte[] details) {
    Metadata trailers = new Metadata();
    trailers.put(DETAILS, details);
    return io.grpc.Status.UNAVAILABLE.asRuntimeException(trailers);
  }

  /** Details that are broken, or of another status, tell nothing and raise nothing. */
  @Test
  void standsBrokenDetails() {
    assertTellsNothing(unavailable(new byte[] {1, 2, 3}));
    Status other = Status.newBuilder()
        .setCode(Code.INTERNAL.getNumber()).addDetails(Any.pack(info("falrpc", "R"))).build();
    assertTellsNothing(unavailable(other.toByteArray()));
    Any broken = Any.newBuilder()
        .setTypeUrl("type.googleapis.com/google.rpc.ErrorInfo").setValue(ByteString.copyFromUtf8("\n\7x")).build();
    Status withBroken = Status.newBuilder().setCode(Code.UNAVAILABLE.getNumber()).addDetails(broken).build();
    assertTellsNothing(unavailable(withBroken.toByteArray()));
  }
}
